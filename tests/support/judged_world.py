"""A workspace with a real, tiny, untrained method that was really judged; copies of it to register from."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from salon.data.dataset import Dataset
from salon.files import write_json
from salon.judging.classifier import AttributeScorer
from salon.judging.retriever import Retriever
from salon.params import ClipParams
from salon.paths import SPLITS
from salon.stages import evaluate, validate
from salon.towers.states import TextStateCache
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import ClipTower, build_towers
from workspaces import NAME, Workspace, write_method

CLIP = ClipParams(
    vocab_size=300,
    max_tokens=48,
    text_width=32,
    text_layers=1,
    image_channels=[8],
    image_blocks=1,
    projection_dim=16,
    hard_negatives=2,
    max_steps=1,
    batch_size=8,
    lr=1e-3,
)
EVALUATE = {
    "pictures": 20,  # what else is held out must be enough for the copy test
    "latency_repeats": 3,
    "bootstrap_samples": 100,
}
# so few prompts show that one is nearer to real pictures, and rule out no small loss
REGISTER = {"max_latency_ms": 10_000, "prompts": 40, "alignment_margin": 0.2, "diversity_margin": 1.0}


@pytest.fixture(scope="session", autouse=True)
def _quiet_processes() -> Iterator[None]:
    """What the command line sets for itself; servers and child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.fixture(scope="session")
def judged_world(ingested_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ingested, validated, with towers, scorer and method, and judged by the real stage. Read only."""
    root = tmp_path_factory.mktemp("judged") / "world"
    shutil.copytree(ingested_world, root)
    workspace = Workspace(root)
    workspace.edit_params("evaluate", **EVALUATE)
    workspace.edit_params("register", **REGISTER)
    workspace.edit_params("validate", max_attribute_imbalance=5.0)  # few rows are never balanced
    paths = workspace.paths
    validate.run(workspace.params, paths)

    data = Dataset(paths.interim)
    captions = sorted({caption for split in SPLITS for caption in data.captions(split)})
    torch.manual_seed(0)
    tokenizer = train_tokenizer(captions, vocab_size=CLIP.vocab_size, max_tokens=CLIP.max_tokens)
    tower = ClipTower.after_training(
        build_towers(CLIP, tokenizer), tokenizer, captions, embeddings=torch.randn(len(captions), 16)
    )
    tower.save(paths.clip)
    write_json(paths.codec("pixels") / "config.json", {"family": "pixels"})
    TextStateCache(captions, tower.encode_text(captions)).save(paths.text_states)

    attributes = [row for split in SPLITS for row in data.attributes(split)]
    labels = {name: sorted({row[name] for row in attributes}) for name in attributes[0]}
    AttributeScorer(labels, width=8).save_pretrained(paths.scorer)
    Retriever(width=8).save_pretrained(paths.retriever)
    # an untrained scorer would not pass its sentinels
    write_json(paths.sentinels, {"passed": True, "broken": "", "rules": []})
    write_method(paths, seed=1)
    evaluate.run(workspace.params, paths, NAME)
    shutil.copy(paths.metrics(NAME), paths.metrics("sentinel-real"))
    return root


@pytest.fixture
def workspace(judged_world: Path, tmp_path: Path) -> Workspace:
    """A judged workspace of one's own, with no store yet."""
    root = tmp_path / "world"
    shutil.copytree(judged_world, root)
    return Workspace(root)


@pytest.fixture(scope="session")
def registered_world(judged_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose method is champion. Read only."""
    root = tmp_path_factory.mktemp("registered") / "world"
    shutil.copytree(judged_world, root)
    workspace = Workspace(root)
    assert workspace.register()["alias"] == "champion"
    return workspace

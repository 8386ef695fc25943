"""The select stage: common, recorded, reproducible, blind to what judges, and what serves draws by it."""

from pathlib import Path

import pytest
import torch

from salon.data.dataset import Dataset, ForbiddenSplitError
from salon.evaluation import search
from salon.evaluation.sampling import BatchSampler
from salon.files import file_digests, read_json
from salon.inference.bundle import read_models
from salon.inference.model import ModelCache
from salon.judging.jury import Jury
from salon.judging.selection import Selection
from salon.judging.trials import SPLITS
from salon.methods.base import FrozenNets, load_method
from salon.registry import versions
from salon.registry.candidate import model_sha256
from salon.stages import evaluate, select
from workspaces import NAME, Workspace

TRIALS = 3
FORBIDDEN = ("test", "novel")


@pytest.fixture
def blind(workspace: Workspace) -> Workspace:
    """A workspace in which there is nothing to read of the splits that judge."""
    for split in FORBIDDEN:
        shards = list(workspace.paths.interim.glob(f"{split}-*.parquet"))
        assert shards
        for shard in shards:
            shard.unlink()
    for reference in (workspace.paths.scratch / "reference").glob("*"):
        reference.unlink()
    for report in ("metrics", "samples"):
        for file in (workspace.root / "reports" / report).rglob("*"):
            if file.is_file():
                file.unlink()
    workspace.edit_params("select", trials=TRIALS, pictures=16)
    return workspace


def run(workspace: Workspace) -> Selection:
    select.run(workspace.params, workspace.paths, NAME)
    return Selection.load(workspace.paths.selection(NAME))


def measured(selection: Selection) -> list[tuple[object, ...]]:
    """All but the time."""
    return [
        (trial.settings, trial.likeness, trial.alignment, trial.diversity, trial.picture_flops)
        for trial in selection.trials
    ]


def test_it_needs_nothing_of_test_and_novel_and_finds_the_same_again(blind: Workspace) -> None:
    first = run(blind)
    before = file_digests(blind.paths.selected(NAME))
    again = run(blind)
    assert measured(again) == measured(first)
    assert again.chosen == first.chosen
    assert file_digests(blind.paths.selected(NAME))["model.safetensors"] == before["model.safetensors"]
    assert file_digests(blind.paths.selected(NAME))["config.json"] == before["config.json"]
    assert len(first.trials) == TRIALS
    own = read_json(blind.paths.method(NAME) / "config.json")["config"]
    assert first.trials[0].settings == {name: own[name] for name in first.settings}
    assert all(trial.diversity is not None for trial in first.trials)


def test_what_reads_test_is_refused_where_settings_are_chosen(workspace: Workspace) -> None:
    assert not set(SPLITS) & set(FORBIDDEN)
    with pytest.raises(ForbiddenSplitError):
        Jury(Dataset(workspace.paths.interim).only(*SPLITS), workspace.paths, workspace.params.evaluate)


def test_a_killed_search_tries_nothing_twice(blind: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    killed_at: int | None = 2
    real = BatchSampler.draw

    def draw(self, prompts, *, repeat=0):
        if len(set(drawn)) == killed_at and self.method.config.guidance_scale not in drawn:
            raise KeyboardInterrupt
        drawn.append(self.method.config.guidance_scale)
        return real(self, prompts, repeat=repeat)

    monkeypatch.setattr(BatchSampler, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        run(blind)
    assert not blind.paths.selection(NAME).exists()
    tried = set(drawn)
    drawn.clear()
    killed_at = None
    found = run(blind)
    assert {trial.settings["guidance_scale"] for trial in found.trials} == tried | set(drawn)
    assert not tried & set(drawn)
    assert not any((blind.paths.scratch / "select").iterdir())


def test_what_is_judged_registered_and_served_draws_with_the_selected_settings(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.edit_params("select", trials=TRIALS, pictures=16)
    before = model_sha256(workspace.paths, NAME)
    monkeypatch.setattr(search, "choose", lambda trials, _: Selection(list(trials), 2, "the last"))
    selection = run(workspace)
    settings = selection.settings
    assert settings != selection.trials[0].settings
    assert model_sha256(workspace.paths, NAME) != before

    paths = workspace.paths
    frozen = FrozenNets.load(codec=paths.codec("pixels"), clip=paths.clip)
    trained = load_method(paths.method(NAME), frozen)
    chosen = load_method(paths.selected(NAME), frozen)
    assert chosen.sampler_settings == settings != trained.sampler_settings
    assert all(torch.equal(a, b) for a, b in zip(chosen.parameters(), trained.parameters(), strict=True))

    judged: list[object] = []
    real = BatchSampler.draw

    def draw(self, prompts, *, repeat=0):
        judged.append(self.method.sampler_settings)
        return real(self, prompts, repeat=repeat)

    monkeypatch.setattr(BatchSampler, "draw", draw)
    evaluate.run(workspace.params, paths, NAME)
    assert judged
    assert all(each == settings for each in judged)
    cost = read_json(paths.metrics(NAME))["cost"]
    assert cost["selection_flops"] == selection.cost["flops"] > 0
    assert cost["selection_minutes"] == selection.cost["minutes"]
    assert cost["picture_flops"] == selection.trial.picture_flops

    workspace.register()
    version = workspace.store.client.get_model_version(f"salon-{NAME}", "1")
    ((_, package),) = read_models(versions.download_bundle(workspace.store, version, tmp_path)).items()
    served = ModelCache().load(package, version="1")
    assert served.method.sampler_settings == settings
    assert read_json(paths.selected(NAME) / "training.json")["selection"] == selection.cost

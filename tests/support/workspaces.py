"""A workspace in which everything before registration has run, and what tests do to it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from salon.files import read_json, write_json
from salon.methods.base import DataShape, FrozenNets
from salon.methods.diffusion import Diffusion, DiffusionConfig
from salon.params import Params, load_params
from salon.paths import Paths
from salon.stages import register
from salon.towers.states import TextStateCache
from salon.tracking import runs

NAME = "diffusion"
SCALE = 0.02  # of an untrained flow's weights
COARSE, COARSER = 0.05, 0.1  # pictures lie further from real ones
CONFIG = DiffusionConfig(
    family=NAME,
    channels=[16, 16],
    blocks_per_level=1,
    attention_levels=[1],
    layout_levels=[1],
    condition_width=32,
)


@dataclass(frozen=True)
class Workspace:
    """A folder in which everything before registration has run."""

    root: Path

    @property
    def params(self) -> Params:
        return load_params(self.paths.params)

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def store(self) -> runs.Store:
        return runs.open_store(self.params, self.paths)

    def retrain(self, *, seed: int, scale: float = SCALE) -> None:
        """New weights, as if they had been judged as the old ones were."""
        write_method(self.paths, seed=seed, scale=scale)

    def register(self) -> dict[str, str]:
        register.run(self.params, self.paths, NAME)
        return read_json(self.paths.registration(NAME))

    def aliases(self) -> dict[str, str]:
        model = self.store.client.get_registered_model(f"salon-{NAME}")
        return {alias: str(version) for alias, version in model.aliases.items()}

    def versions(self) -> list[str]:
        found = self.store.client.search_model_versions(f"name = 'salon-{NAME}'")
        return sorted(str(version.version) for version in found)

    def edit_params(self, section: str, **values: object) -> None:
        raw = yaml.safe_load(self.paths.params.read_text(encoding="utf-8"))
        raw.setdefault(section, {}).update(values)
        self.paths.params.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")


def write_method(paths: Paths, *, seed: int, scale: float = SCALE) -> None:
    """An untrained flow, whose own settings were selected, and the ledgers that both stages would leave."""
    torch.manual_seed(seed)
    frozen = FrozenNets.load(codec=paths.codec(CONFIG.codec), clip=paths.clip)
    concept_width = TextStateCache.load(paths.text_states).states.concept.shape[1]
    shape = DataShape(image_size=32, text_width=32, pooled_width=16, concept_width=concept_width)
    method = Diffusion(CONFIG, shape, frozen)
    with torch.no_grad():
        for parameter in method.parameters():  # zero-initialised layers would draw the same for every prompt
            parameter.add_(scale * torch.randn_like(parameter))
    for folder in (paths.method(NAME), paths.selected(NAME)):
        shutil.rmtree(folder, ignore_errors=True)
        method.save_pretrained(folder)
    parameters = sum(p.numel() for p in method.parameters())
    own = {
        "steps": 5,
        "train_flops": 1000,
        "train_minutes": 0.1,
        "images_seen": 160,
        "parameters": parameters,
        "peak_memory_gb": 0.5,
        "precision": "32-true",
        "device": "cpu",
    }
    ledger = {
        "run_id": "0" * 32,  # of no store: every test starts with a restored model
        "tracking_uri": "sqlite:///mlflow.db",
        "own": own,
        "shared": {"clip": {"train_flops": 10, "train_minutes": 0.1}},
        "train_flops": 1010,
        "train_minutes": 0.2,
        "parameters": parameters,
    }
    write_json(paths.method(NAME) / "training.json", ledger)
    selection = {"trials": 1, "pictures": 4, "flops": 400, "minutes": 0.01}
    write_json(paths.selected(NAME) / "training.json", {**ledger, "selection": selection})

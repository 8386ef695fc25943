"""Parameters of a world small enough to be ingested in a second."""

from pathlib import Path
from typing import Any

import yaml

from salon.params import Params, load_params

REPOSITORY = Path(__file__).parents[2]
ARCHIVE = REPOSITORY / "data/raw/emoji64.parquet"
TINY_EMOJI = {
    "concepts": ["owl", "pizza", "rocket", "umbrella"],
    "styles": ["noto", "twemoji", "fluent-3d"],
    "backgrounds": ["blue", "yellow", "striped"],
    "pictures": {"train": 240, "val": 60, "test": 60, "novel": 60},
    "held_out_concept_background": 2,
    "held_out_concept_style": 2,
}


def write_tiny_params(folder: Path, **sections: dict[str, Any]) -> Params:
    """The repository's params.yaml with a tiny world, and `sections` laid over it."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    raw["ingest"]["emoji"].update(TINY_EMOJI)
    raw["ingest"].update(path=str(ARCHIVE), rows_per_shard=100)
    raw["validate"].update(min_rows=50, max_attribute_imbalance=4.0)  # a small world is lopsided
    for section, values in sections.items():
        raw[section].update(values)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return load_params(path)


def write_world_params(folder: Path, source: str, settings: dict[str, Any]) -> Params:
    """The repository's params.yaml with another embedded world as its source."""
    write_tiny_params(folder)
    path = folder / "params.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["ingest"] |= {"source": source, source: settings}
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return load_params(path)

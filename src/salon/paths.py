"""Every path that a stage reads or writes, in one place.

All paths hang off one root (the folder that holds `params.yaml`), so that a test or a smoke run works on
another root without touching this one. Nothing here creates a folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test", "novel")


@dataclass(frozen=True)
class At:
    """An attribute of `Paths`: one place below its root."""

    place: str

    def __get__(self, paths: "Paths", owner: type) -> Path:
        return paths.root / self.place


@dataclass(frozen=True)
class Each:
    """A method of `Paths`: the place of one model or codec, whose name stands for `{}`."""

    place: str

    def __get__(self, paths: "Paths", owner: type) -> Callable[[str], Path]:
        return lambda name: paths.root / self.place.format(name)


@dataclass(frozen=True)
class Paths:
    """The workspace below `root`."""

    root: Path = Path()

    params = At("params.yaml")
    profiles = At("profiles")
    """What differs from `params.yaml`, one file per profile."""

    accepted = At("data/accepted.json")
    """Figures of the data that were last accepted, in git: new data are compared with them."""
    interim = At("data/interim")
    """Parquet shards of the design's schema: `<split>-00000.parquet`, `quarantine.parquet`."""
    quarantine = At("data/interim/quarantine.parquet")
    text_states = At("data/processed/text_states")
    """The frozen text tower's states of every distinct caption."""

    clip = At("models/clip")
    scorer = At("models/scorer")
    """The judge of attributes; empty where the rows have none."""
    retriever = At("models/retriever")
    """The judge of captions."""
    regressor = At("models/regressor")
    """The judge of what varies; empty where no row says what was drawn at random."""
    codecs = At("models/codecs")
    codec = Each("models/codecs/{}")
    """Weights, config and training ledger of one codec."""
    method = Each("models/methods/{}")
    """Weights, config and training ledger of one trained method."""
    selected = Each("models/selected/{}")
    """The same with the settings of the sampler that were selected: what is judged, registered and served."""

    ingest_report = At("reports/ingest.json")
    """Counts of found, ingested and quarantined rows."""
    validation = At("reports/validation.json")
    """The timestamp-free verdict on the rows that later stages depend on."""
    validation_summary = At("reports/validation.md")
    """The verdict in Markdown, for a pull request."""
    data_docs = At("reports/data_docs")
    metrics = Each("reports/metrics/{}.json")
    scorer_metrics = At("reports/metrics/scorer.json")
    clip_metrics = At("reports/metrics/clip_tower.json")
    codec_metrics = Each("reports/metrics/codec-{}.json")
    codec_pictures = Each("reports/codecs/{}")
    """Originals above their reconstructions."""
    selection = Each("reports/selection/{}.json")
    """What was tried of a method's sampler settings, and which were taken."""
    tradeoff = Each("reports/tradeoff/{}.json")
    """Likeness, diversity and alignment of every trial by its time."""
    guidance = Each("reports/guidance/{}.json")
    """The same by its guidance; empty of a method without."""
    samples = Each("reports/samples/{}")
    """The judged pictures of one method and the verdict on each."""
    sentinels = At("reports/sentinels.json")
    """Whether every metric puts the sentinels where they belong."""
    codec_floors = At("reports/codec_floors.json")
    """What real pictures through each codec get: the floor of every method on it."""
    seeds = At("reports/seeds.json")
    """Every method trained with several seeds: no stage of the pipeline, made when somebody asks."""
    registration = Each("reports/registered/{}.json")
    compare = At("reports/compare")

    scratch = At(".salon")
    """Undeclared, git-ignored: resumable checkpoints and working files. Safe to delete."""
    ingest_work = At(".salon/ingest")
    """What an interrupted ingestion has prepared; gone when it ends."""

"""Every path that a stage reads or writes, in one place.

All paths hang off one root (the folder that holds `params.yaml`), so that a test or a smoke run works on
another root without touching this one. Nothing here creates a folder.
"""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test", "novel")


@dataclass(frozen=True)
class Paths:
    """The workspace below `root`."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def profiles(self) -> Path:
        """What differs from `params.yaml`, one file per profile."""
        return self.root / "profiles"

    @property
    def interim(self) -> Path:
        """Parquet shards of the design's schema: `<split>-00000.parquet`, `quarantine.parquet`."""
        return self.root / "data" / "interim"

    @property
    def quarantine(self) -> Path:
        return self.interim / "quarantine.parquet"

    @property
    def ingest_report(self) -> Path:
        """Counts of found, ingested and quarantined rows."""
        return self.root / "reports" / "ingest.json"

    @property
    def validation(self) -> Path:
        """The timestamp-free verdict on the rows that later stages depend on."""
        return self.root / "reports" / "validation.json"

    @property
    def validation_summary(self) -> Path:
        """The verdict in Markdown, for a pull request."""
        return self.root / "reports" / "validation.md"

    @property
    def accepted(self) -> Path:
        """Figures of the data that were last accepted, in git: new data are compared with them."""
        return self.root / "data" / "accepted.json"

    @property
    def data_docs(self) -> Path:
        return self.root / "reports" / "data_docs"

    @property
    def clip(self) -> Path:
        return self.root / "models" / "clip"

    @property
    def text_states(self) -> Path:
        """The frozen text tower's states of every distinct caption."""
        return self.root / "data" / "processed" / "text_states"

    @property
    def scorer(self) -> Path:
        """The judge of attributes; empty where the rows have none."""
        return self.root / "models" / "scorer"

    @property
    def retriever(self) -> Path:
        """The judge of captions."""
        return self.root / "models" / "retriever"

    @property
    def scorer_metrics(self) -> Path:
        return self.metrics("scorer")

    @property
    def clip_metrics(self) -> Path:
        return self.metrics("clip_tower")

    @property
    def codecs(self) -> Path:
        return self.root / "models" / "codecs"

    def codec(self, name: str) -> Path:
        """Weights, config and training ledger of one codec."""
        return self.codecs / name

    def codec_metrics(self, name: str) -> Path:
        return self.metrics(f"codec-{name}")

    def codec_pictures(self, name: str) -> Path:
        """Originals above their reconstructions."""
        return self.root / "reports" / "codecs" / name

    def method(self, name: str) -> Path:
        """Weights, config and training ledger of one trained method."""
        return self.root / "models" / "methods" / name

    def metrics(self, name: str) -> Path:
        return self.root / "reports" / "metrics" / f"{name}.json"

    def tradeoff(self, name: str) -> Path:
        """Quality and latency at each setting of what the method has to buy quality with time."""
        return self.root / "reports" / "tradeoff" / f"{name}.json"

    def guidance(self, name: str) -> Path:
        """Quality and latency at each guidance scale."""
        return self.root / "reports" / "guidance" / f"{name}.json"

    def samples(self, name: str) -> Path:
        """The judged pictures of one method and the verdict on each."""
        return self.root / "reports" / "samples" / name

    @property
    def sentinels(self) -> Path:
        """Whether every metric puts the sentinels where they belong."""
        return self.root / "reports" / "sentinels.json"

    @property
    def seeds(self) -> Path:
        """Every method trained with several seeds: no stage of the pipeline, made when somebody asks."""
        return self.root / "reports" / "seeds.json"

    def registration(self, name: str) -> Path:
        return self.root / "reports" / "registered" / f"{name}.json"

    @property
    def compare(self) -> Path:
        return self.root / "reports" / "compare"

    @property
    def ingest_work(self) -> Path:
        """What an interrupted ingestion has prepared; gone when it ends."""
        return self.scratch / "ingest"

    @property
    def scratch(self) -> Path:
        """Undeclared, git-ignored: resumable checkpoints and working files. Safe to delete."""
        return self.root / ".salon"

"""`params.yaml` as typed values. An unknown key is an error that names the key and the nearest known one.

This module imports neither torch nor mlflow, so that `salon --help` and a bad `params.yaml` answer at once.
The settings of a method stand beside the method (`salon.methods.<family>`); here they are plain mappings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, create_model, model_validator

from salon.errors import SalonError
from salon.params.section import Fraction, IntRange, Section, parse_section
from salon.params.serve import ServeParams
from salon.params.sources import SOURCES, is_world
from salon.params.training import BudgetParams, ClipParams, RegisterParams, ScorerParams, TrainingParams


def _section_field(settings: type[Section]) -> Any:
    """A section whose every key has a default may be left out; another one stands there when it is chosen."""
    if any(field.is_required() for field in settings.model_fields.values()):
        return (settings | None, None)
    return (settings, settings())


_SourceSections: Any = create_model(
    "_SourceSections", __base__=Section, **{name: _section_field(SOURCES[name]) for name in SOURCES}
)


class IngestParams(_SourceSections):
    """Captions and pictures in, Parquet shards of one schema out; a section for each of `SOURCES`."""

    source: Literal[*SOURCES]  # type: ignore[valid-type]
    """Which source to read; its settings are in the section of its name."""
    path: str
    """The file or folder that the source reads; `dvc repro` ingests again when its content changes.
    Of `emoji`, `emoji_pairs` and `emoji_pictures` the artwork: one 64x64 RGBA picture a row, with captions,
    style and licence."""
    max_quarantine_fraction: Fraction = 0.01
    """Fail when more than this share of the rows found cannot be used."""
    rows_per_shard: int = Field(4096, gt=0)
    """Rows per Parquet file."""

    @property
    def settings(self) -> Any:
        """The section of the chosen source."""
        return getattr(self, self.source)

    @property
    def is_world(self) -> bool:
        """Whether the chosen source is a rendered world, and not somebody's own pictures."""
        return is_world(self.source)

    @model_validator(mode="after")
    def _chosen_source_is_described(self) -> "IngestParams":
        if self.settings is None:
            raise ValueError(f"source {self.source} needs a section {self.source}")
        return self


class DriftParams(Section):
    """How far data may be from those last accepted (`data/accepted.json`)."""

    max_lost: Fraction
    """Share of the accepted attribute values (without attributes: frequent words) that may be gone."""
    max_new: Fraction
    """New attribute values (without attributes: frequent words) as a share of the accepted ones."""
    max_length_distance: Fraction
    """Largest difference between the cumulative distributions of caption lengths."""
    max_language_shift: Fraction
    """Largest change of a language's share."""
    max_repeated_increase: Fraction
    """Rise of the share of rows whose picture another row shows too."""
    max_row_loss: Fraction
    """Largest share of a split's rows that may be gone."""


class ValidateParams(Section):
    """Thresholds of the Great Expectations suite."""

    caption_length: IntRange
    """Shortest and longest caption allowed, in characters."""
    languages: list[str] = Field(min_length=1)
    """BCP-47 tags that may occur."""
    image_side: IntRange
    """Smallest and largest width or height allowed, in pixels."""
    max_attribute_imbalance: float = Field(ge=1)
    """Most frequent value of an attribute over its least frequent one, in the training split."""
    min_rows: int = Field(ge=1)
    """Fewest rows allowed in each split."""
    phash_distance: int = Field(ge=0, le=64)
    """Pictures of two splits whose perceptual hashes differ by fewer bits are near-duplicates.
    Not applied to rendered scenes, which differ by design only in position, size and rotation."""
    drift: DriftParams


class SelectParams(Section):
    """The search of sampler settings, the same for every method."""

    trials: int = Field(ge=1)
    """Settings that are tried of each method, its own first; fewer where its space holds fewer."""
    pictures: int = Field(gt=1)
    """Validation prompts per trial, at most half of the split: the others are what real pictures are."""
    seed: int
    """Seed of what is tried and of the noise, which is not that of judged pictures."""


class EvaluateParams(Section):
    """The jury's protocol."""

    dropped: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("tradeoff", "tradeoff_pictures", "dial", "dial_pictures"), "select says what is tried"
    )

    pictures: int = Field(gt=0)
    """Prompts per split (of `novel`: per kind); at most what the split holds."""
    batch_size: int = Field(64, gt=0)
    seed: int = 4242
    bootstrap_samples: int = Field(2000, ge=100)
    """Resamples behind each 95 % interval."""
    latency_repeats: int = Field(20, ge=3)
    """Timed calls with one picture; a quarter as many with 16 pictures."""


class Params(Section):
    """The whole of `params.yaml`."""

    seed: int = Field(ge=0, lt=2**32)
    """Seed of ingestion, and of all training that has no seed of its own."""
    experiment: str = "salon"
    """Name of the MLflow experiment."""
    ingest: IngestParams
    validate_: ValidateParams = Field(alias="validate")
    scorer: ScorerParams
    clip: ClipParams
    budget: BudgetParams
    training: TrainingParams = TrainingParams()
    codecs: dict[str, dict[str, Any]] = Field({})
    """One entry per trained codec; the key is its name and, unless `family` says otherwise, its module."""
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    """One entry per method; the key is its name and, unless `family` says otherwise, its module."""
    select: SelectParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    serve: ServeParams = ServeParams()

    @property
    def training_seed(self) -> int:
        """Seed of the training of towers, codecs and methods."""
        return self.seed if self.training.seed is None else self.training.seed

    def method(self, name: str) -> dict[str, Any]:
        """The raw settings of one method.

        Raises:
            SalonError: params.yaml has no such method.
        """
        if name not in self.methods:
            raise SalonError(f"unknown method {name!r}: params.yaml has {', '.join(self.methods)}")
        return self.methods[name]

    def codec(self, name: str) -> dict[str, Any]:
        """The raw settings of one trained codec.

        Raises:
            SalonError: params.yaml has no such codec.
        """
        if name not in self.codecs:
            raise SalonError(f"unknown codec {name!r}: params.yaml has {', '.join(self.codecs) or 'none'}")
        return self.codecs[name]

    @model_validator(mode="after")
    def _names_are_plain(self) -> "Params":
        for kind, names in (("method", self.methods), ("codec", self.codecs)):
            for name in names:
                if not name.replace("_", "").isalnum() or not name.islower():
                    raise ValueError(f"{kind} name {name!r}: use lower-case letters, digits and _")
        return self


def load_params(path: Path) -> Params:
    """Read and check `params.yaml`.

    Raises:
        SalonError: the file is missing, is not YAML, or holds an unknown key or a value out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SalonError(f"{path} does not exist: run salon in the folder that holds params.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SalonError(f"{path} is not valid YAML: {error}") from None
    return parse_section(Params, raw, where=str(path))

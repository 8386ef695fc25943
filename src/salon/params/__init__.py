"""`params.yaml` as typed values. An unknown key is an error that names the key and the nearest known one.

This module imports neither torch nor mlflow, so that `salon --help` and a bad `params.yaml` answer at once.
The settings of a method stand beside the method (`salon.methods.<family>`); here they are plain mappings.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from salon.errors import SalonError
from salon.params.section import Fraction, IntRange, Section, parse_section
from salon.params.serve import ServeParams
from salon.params.sources import (
    CaptionedParams,
    CocoParams,
    HubParams,
    ImagefolderParams,
    ParquetParams,
    WebdatasetParams,
)
from salon.params.worlds import EmojiPairsParams, EmojiParams, EmojiPicturesParams

DEVICES = r"auto|-1|[1-9]\d*|\d+(,\d+)+|\d+,"  # as Lightning reads them


class IngestParams(Section):
    """Captions and pictures in, Parquet shards of one schema out."""

    source: Literal[
        "emoji",
        "emoji_pairs",
        "emoji_pictures",
        "imagefolder",
        "coco",
        "webdataset",
        "parquet",
        "hub",
    ] = "emoji"
    """Which source to read; its settings are in the section of its name."""
    path: str = "data/raw/emoji64.parquet"
    """The file or folder that the source reads; `dvc repro` ingests again when its content changes.
    Of `emoji`, `emoji_pairs` and `emoji_pictures` the artwork: one 64x64 RGBA picture a row, with captions,
    style and licence."""
    max_quarantine_fraction: Fraction = 0.01
    """Fail when more than this share of the rows found cannot be used."""
    rows_per_shard: int = Field(4096, gt=0)
    """Rows per Parquet file."""
    emoji: EmojiParams | None = None
    emoji_pairs: EmojiPairsParams | None = None
    emoji_pictures: EmojiPicturesParams | None = None
    imagefolder: ImagefolderParams = ImagefolderParams()
    coco: CocoParams = CocoParams()
    webdataset: WebdatasetParams = WebdatasetParams()
    parquet: ParquetParams = ParquetParams()
    hub: HubParams = HubParams()

    @property
    def scenes(self) -> EmojiParams:
        """The settings of the embedded default source, which are there when it is chosen."""
        assert self.emoji is not None
        return self.emoji

    @property
    def pairs(self) -> EmojiPairsParams:
        """The settings of the embedded source of two things, which are there when it is chosen."""
        assert self.emoji_pairs is not None
        return self.emoji_pairs

    @property
    def drawings(self) -> EmojiPicturesParams:
        """The settings of the embedded source of single drawings, which are there when it is chosen."""
        assert self.emoji_pictures is not None
        return self.emoji_pictures

    @property
    def captioned(self) -> CaptionedParams:
        """The settings of the chosen source of one's own pictures."""
        section = getattr(self, self.source)
        assert isinstance(section, CaptionedParams)
        return section

    @model_validator(mode="after")
    def _embedded_world_is_described(self) -> "IngestParams":
        if getattr(self, self.source) is None:
            raise ValueError(f"source {self.source} needs a section {self.source}")
        return self


class DriftParams(Section):
    """How far data may be from those last accepted (`data/accepted.json`)."""

    max_lost: Fraction = 0.0
    """Share of the accepted attribute values (without attributes: frequent words) that may be gone."""
    max_new: Fraction = 0.05
    """New attribute values (without attributes: frequent words) as a share of the accepted ones."""
    max_length_distance: Fraction = 0.1
    """Largest difference between the cumulative distributions of caption lengths."""
    max_language_shift: Fraction = 0.05
    """Largest change of a language's share."""
    max_repeated_increase: Fraction = 0.02
    """Rise of the share of rows whose picture another row shows too."""
    max_row_loss: Fraction = 0.1
    """Largest share of a split's rows that may be gone."""


class ValidateParams(Section):
    """Thresholds of the Great Expectations suite."""

    caption_length: IntRange = (3, 200)
    """Shortest and longest caption allowed, in characters."""
    languages: list[str] = Field(["en", "ru"], min_length=1)
    """BCP-47 tags that may occur."""
    image_side: IntRange = (16, 1024)
    """Smallest and largest width or height allowed, in pixels."""
    max_attribute_imbalance: float = Field(2.0, ge=1)
    """Most frequent value of an attribute over its least frequent one, in the training split."""
    min_rows: int = Field(100, ge=1)
    """Fewest rows allowed in each split."""
    phash_distance: int = Field(4, ge=0, le=64)
    """Pictures of two splits whose perceptual hashes differ by fewer bits are near-duplicates.
    Not applied to rendered scenes, which differ by design only in position, size and rotation."""
    drift: DriftParams = DriftParams()


class RetrieverParams(Section):
    """The independent image-text scorer, which needs no attributes."""

    max_steps: int = Field(400, gt=0)
    """Training steps."""
    batch_size: int = Field(64, gt=0)
    lr: float = Field(5e-3, gt=0)
    width: int = Field(16, gt=0, multiple_of=8)
    """Channels of the first convolution; doubled twice, which is also the size of the embedding."""


class ScorerParams(Section):
    """The independent judge: an attribute classifier that no method ever sees."""

    seed: int = 90210
    """Its own seed, so that it shares no randomness with any method."""
    max_steps: int = Field(gt=0)
    """Training steps."""
    batch_size: int = Field(64, gt=0)
    lr: float = Field(2e-3, gt=0)
    width: int = Field(32, gt=0)
    """Channels of the first block; doubled twice."""
    cells: int = Field(1, ge=1)
    """Cells each way in which features are averaged; above 1 where it matters where things lie."""
    min_accuracy: Fraction = 0.99
    """Accuracy on held-out real renders that each attribute must reach, else the stage fails."""
    retriever: RetrieverParams = RetrieverParams()
    """The judge of whole captions."""


class ClipParams(Section):
    """Tokenizer and contrastive towers, trained once and shared by all methods."""

    vocab_size: int = Field(1024, ge=300)
    """BPE merges plus bytes."""
    max_tokens: int = Field(32, ge=8)
    """Captions are cut to this many tokens; a cut is reported, never silent."""
    text_width: int = Field(128, gt=0)
    """Width of the text tower."""
    text_layers: int = Field(2, gt=0)
    """Transformer layers of the text tower."""
    image_channels: list[int] = Field([64, 128], min_length=1)
    """Widths of the image tower's stages: the first works on a quarter of the picture's side, each further
    one on half of the one before."""
    image_blocks: int = Field(2, gt=0)
    """Residual blocks per stage of the image tower."""
    projection_dim: int = Field(128, gt=0)
    """Width of the shared space."""
    hard_negatives: int = Field(2, ge=0)
    """Captions per picture that differ from its own in one attribute (needs attributes)."""
    max_steps: int = Field(gt=0)
    batch_size: int = Field(64, gt=0)
    lr: float = Field(1e-3, gt=0)


class BudgetParams(Section):
    """What a method may spend. Equal means equal counted training FLOPs."""

    train_flops: float = Field(gt=0)
    """FLOPs per method, shared stages included (counted by `torch.utils.flop_counter`)."""
    tolerance: Fraction = 0.05
    """Runs whose budgets differ by more are not ranked."""


class TrainingParams(Section):
    """One Trainer configuration for all methods."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    """Lightning accelerator of what is trained. Drawing and judging take the first GPU if there is one."""
    devices: int | str = "auto"
    """How many devices, or which ("0,2"); -1 is every GPU, `auto` is one GPU or one CPU process."""
    num_nodes: int = Field(1, ge=1)
    strategy: Literal["auto", "ddp", "ddp_spawn", "ddp_find_unused_parameters_true"] = "auto"
    """Lightning strategy: one that leaves the weights whole in every process."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """`auto`: bf16 on GPUs that have it, else fp32."""
    cuda_graphs: bool = True
    """Where one GPU trains, a step's kernels are recorded once and asked for all together. Off, if memory is
    short: a recording keeps its activations."""
    checkpoint_every_seconds: float = Field(20, gt=0)
    """Most training time that a kill can cost."""
    log_every_steps: int = Field(20, ge=1)
    grids: int = Field(4, ge=1)
    """Sample grids logged in the course of one training."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Seed of a method's initialisation, data order and noise, if it is to differ from that of the data, the
    towers and the codecs."""

    @field_validator("devices", mode="before")
    @classmethod
    def _can_be_devices(cls, value: Any) -> Any:
        if isinstance(value, bool) or not re.fullmatch(DEVICES, str(value)):
            raise ValueError(
                f"{value!r} is neither auto, -1, a number from 1, nor a list of GPUs such as '0,2'"
            )
        return value


class TradeoffParams(Section):
    """Values of the arguments that trade one quality for another, beside the method's own."""

    num_inference_steps: list[int] = Field([2, 4, 8, 16], min_length=1)
    """Solver steps of a flow, decoding steps of a masked prior."""
    candidates: list[int] = Field([1, 2, 4, 8], min_length=1)
    """Pictures per caption that the towers choose from, where nothing else buys quality with time."""
    guidance_scale: list[float] = Field([1, 1.5, 2, 3, 5], min_length=1)
    """How far the caption is exaggerated, where a method can do that; 1 is not at all."""


class EvaluateParams(Section):
    """The jury's protocol."""

    renamed: ClassVar[Mapping[str, str]] = {"dial": "tradeoff", "dial_pictures": "tradeoff_pictures"}

    pictures: int = Field(gt=0)
    """Prompts per split (of `novel`: per kind); at most what the split holds."""
    batch_size: int = Field(64, gt=0)
    seed: int = 4242
    bootstrap_samples: int = Field(2000, ge=100)
    """Resamples behind each 95 % interval."""
    latency_repeats: int = Field(20, ge=3)
    """Timed calls with one picture; a quarter as many with 16 pictures, and per value of an argument."""
    tradeoff: TradeoffParams = TradeoffParams()
    """Settings whose quality and latency are tabled."""
    tradeoff_pictures: int = Field(128, gt=0)
    """Validation prompts per value of an argument; at most `pictures`."""


class RegisterParams(Section):
    """What may become champion."""

    max_latency_ms: float = Field(gt=0)
    """Guardrail: latency p50 per picture at batch 1."""
    max_copy_rate: Fraction = 0.05
    """Guardrail: share of pictures that are copies of training pictures, by the copy test's estimate."""
    max_parameters: int = Field(20_000_000, gt=0)
    """Guardrail: parameters of the method, without codec and towers."""
    min_probability_better: Fraction = 0.95
    """Paired-bootstrap probability with which a challenger must beat the champion."""


class Params(Section):
    """The whole of `params.yaml`."""

    seed: int = Field(ge=0, lt=2**32)
    """Seed of ingestion, initialisation, data order and noise."""
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
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    serve: ServeParams = ServeParams()

    @property
    def training_seed(self) -> int:
        """Seed of a method's own training."""
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

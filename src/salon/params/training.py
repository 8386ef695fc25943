"""The sections of `params.yaml` for judges, towers, budget, training and promotion.

What `params.yaml` states has no default here, so that a value stands in one place; `training` alone may be
left out, and its defaults fit any machine.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from salon.params.section import Fraction, Section

DEVICES = r"auto|-1|[1-9]\d*|\d+(,\d+)+|\d+,"  # as Lightning reads them


class RetrieverParams(Section):
    """The independent image-text scorer, which needs no attributes."""

    max_steps: int = Field(gt=0)
    """Training steps."""
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    width: int = Field(gt=0, multiple_of=8)
    """Channels of the first convolution; doubled twice, which is also the size of the embedding."""


class RegressorParams(Section):
    """The independent reader of what a renderer drew at random."""

    max_steps: int = Field(gt=0)
    """Training steps."""
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    width: int = Field(gt=0)
    """Channels of the first block; doubled twice."""


class ScorerParams(Section):
    """The independent judge: an attribute classifier that no method ever sees."""

    seed: int
    """Its own seed, so that it shares no randomness with any method."""
    max_steps: int = Field(gt=0)
    """Training steps."""
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    width: int = Field(gt=0)
    """Channels of the first block; doubled twice."""
    cells: int = Field(1, ge=1)
    """Cells each way in which features are averaged; above 1 where it matters where things lie."""
    min_accuracy: Fraction
    """Accuracy on held-out real renders that each attribute must reach, else the stage fails."""
    retriever: RetrieverParams
    """The judge of whole captions."""
    regressor: RegressorParams
    """The judge of what varies within a caption, where rows say what was drawn at random."""


class ClipParams(Section):
    """Tokenizer and contrastive towers, trained once and shared by all methods."""

    vocab_size: int = Field(ge=300)
    """BPE merges plus bytes."""
    max_tokens: int = Field(ge=8)
    """Captions are cut to this many tokens; a cut is reported, never silent."""
    text_width: int = Field(gt=0)
    """Width of the text tower."""
    text_layers: int = Field(gt=0)
    """Transformer layers of the text tower."""
    image_channels: list[int] = Field(min_length=1)
    """Widths of the image tower's stages: the first works on a quarter of the picture's side, each further
    one on half of the one before."""
    image_blocks: int = Field(gt=0)
    """Residual blocks per stage of the image tower."""
    projection_dim: int = Field(gt=0)
    """Width of the shared space."""
    hard_negatives: int = Field(ge=0)
    """Captions per picture that differ from its own in one attribute (needs attributes)."""
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)


class BudgetParams(Section):
    """What a method may spend. Equal means equal counted training FLOPs."""

    train_flops: float = Field(gt=0)
    """FLOPs per method, shared stages included (counted by `torch.utils.flop_counter`)."""
    tolerance: Fraction
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
    """Seed of initialisation, data order and noise of towers, codecs and methods, if it is to differ from
    that of the data: with another one all is trained anew on the same data, and judged by the same jury."""

    @field_validator("devices", mode="before")
    @classmethod
    def _can_be_devices(cls, value: Any) -> Any:
        if isinstance(value, bool) or not re.fullmatch(DEVICES, str(value)):
            raise ValueError(
                f"{value!r} is neither auto, -1, a number from 1, nor a list of GPUs such as '0,2'"
            )
        return value


class RegisterParams(Section):
    """What may become champion."""

    @model_validator(mode="before")
    @classmethod
    def _say_what_came_in_its_place(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "min_probability_better" in raw:
            raise ValueError(
                "min_probability_better decides nothing any more: alpha, alignment_margin and "
                "diversity_margin do, over prompts (docs/promote-and-roll-back.md)"
            )
        return raw

    max_latency_ms: float = Field(gt=0)
    """Guardrail: latency p50 per picture at batch 1."""
    max_copy_rate: Fraction
    """Guardrail: share of pictures that are copies of training pictures, by the copy test's estimate."""
    max_parameters: int = Field(gt=0)
    """Guardrail: parameters of generator and codec, without the text tower."""
    prompts: int = Field(ge=20, lt=1_000_000)
    """Prompts that challenger and champion both draw, twice each: new ones in every contest where scenes are
    rendered, at most those of `val` where they are not."""
    alpha: float = Field(gt=0, lt=0.5)
    """Probability with which a champion may ever give way to one that is no better, however many try."""
    alignment_margin: Fraction
    """How much less often than the champion's a challenger's pictures may show all that was asked."""
    diversity_margin: Fraction
    """How much less two of its pictures may vary than the champion's, as a share of what real ones do."""

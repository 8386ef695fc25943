"""What a method is, and how it is found, saved and loaded.

A method is a codec (image <-> latent) plus a generator (text -> latent). A family is one module of this
package, found by its name; adding one is adding a file.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from salon.codecs import Codec, load_codec
from salon.errors import SalonError
from salon.families import Families, family_of
from salon.nn.guidance import MAX_GUIDANCE_SCALE
from salon.nn.products import adopt
from salon.nn.trainable import Losses, Trainable
from salon.params import Fraction, Section, parse_section
from salon.towers.states import Batch, TextStates, with_new_names
from salon.towers.tower import ClipTower, TwoTowers
from salon.weights import CONFIG, load_weights, read_network_config, save_network

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for the batch, or one for each picture (then a picture does not depend on its batch)."""

MAX_CANDIDATES = 16  # each one costs a picture


class SampleOptions(NamedTuple):
    """What `sample` was asked for, checked and with the config's values for what was not said."""

    generators: Sequence[torch.Generator]
    """One per picture."""
    guidance_scale: float
    num_inference_steps: int


class MethodConfig(Section):
    """Settings that every method has. Each family adds its own."""

    family: str = ""
    """Module of `salon.methods`; the method's name when empty."""
    codec: str = "pixels"
    """Codec whose latents the method generates."""
    batch_size: int = Field(32, ge=1)
    """Pictures per optimizer step, over all devices."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's moment decays."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay (AdamW)."""
    warmup_fraction: Fraction = 0.03
    """Share of the steps over which the learning rate rises."""
    decay_fraction: Fraction = 0.4
    """Share of the steps over which it falls to zero."""
    grad_clip_norm: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    ema_decay: Fraction = 0.995
    """Decay per step of the averaged weights that are saved and judged."""
    candidates: int = Field(1, ge=1, le=MAX_CANDIDATES)
    """Pictures drawn per caption, of which the contrastive towers choose one; dearer in proportion."""


@dataclass(frozen=True)
class DataShape:
    """What a method must know of the data before its first batch."""

    image_size: int
    """Width and height of the pictures."""
    text_width: int
    """Width of `TextStates.tokens`."""
    pooled_width: int
    """Width of `TextStates.pooled`."""
    concept_width: int
    """Width of `TextStates.concept`."""

    @classmethod
    def of(cls, images: UInt8[Tensor, "n 3 h w"], states: TextStates) -> "DataShape":
        """Of a training set's images and the states of its captions."""
        widths = (each.shape[-1] for each in (states.tokens, states.pooled, states.concept))
        return cls(images.shape[-1], *widths)


@dataclass(frozen=True)
class FrozenNets:
    """What is trained before a method and never by it: in no checkpoint and no average, and never copied."""

    codec: Codec
    towers: TwoTowers

    @classmethod
    def load(cls, *, codec: Path, clip: Path) -> "FrozenNets":
        """Read a codec's folder and the towers' folder.

        Raises:
            SalonError: a folder does not hold what it should.
        """
        return cls(load_codec(codec), ClipTower.load(clip).towers)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenNets":
        return self

    def to(self, device: torch.device | str) -> None:
        """Move the networks, in place."""
        self.codec.to(device)
        self.towers.to(device)


class Method(Trainable, ABC):
    """A text-to-image method. Pictures are float in [-1, 1]; text comes as the frozen tower's states.

    Losses and samplers are pure: tensors and a generator in, tensors out.
    """

    config_class: ClassVar[type[MethodConfig]]
    noise_stride: ClassVar[int] = 4096
    training_only: ClassVar[tuple[str, ...]] = ()
    """Submodules that no picture needs, as a discriminator."""
    search_space: ClassVar[tuple[str, ...]] = ("candidates",)
    """Settings of the config that change nothing in training but how pictures are drawn, and are searched."""

    def __init__(self, config: MethodConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.frozen = frozen  # no module itself, so that its networks stay outside this module's tree

    @property
    def codec(self) -> Codec:
        """The frozen codec whose latents the method generates."""
        return self.frozen.codec

    @property
    def towers(self) -> TwoTowers:
        """The frozen contrastive towers; the captions come from their text side."""
        return self.frozen.towers

    @property
    def steps_range(self) -> tuple[int, int]:
        """Fewest and most `num_inference_steps` of `sample`."""
        return 1, 1

    @property
    def sampler_settings(self) -> dict[str, float]:
        """What the method draws with, of what is searched."""
        return {name: getattr(self.config, name) for name in self.search_space}

    def draw_with(self, settings: Mapping[str, float]) -> None:
        """Change how pictures are drawn from now on.

        Raises:
            SalonError: a setting is none of the sampler's, or out of range.
        """
        family = family_of(type(self))
        if foreign := sorted(settings.keys() - set(self.search_space)):
            known = ", ".join(self.search_space)
            raise SalonError(f"{family}: {foreign[0]} is no setting of the sampler; those are {known}")
        changed = self.config.model_dump() | dict(settings)
        self.config = parse_section(type(self.config), changed, where=f"{family}: settings of the sampler")

    def precompute(self, images: Float[Tensor, "b 3 h w"]) -> Tensor | None:
        """What training needs of each picture beside its pixels, computed once for the whole training set."""
        return None

    @torch.no_grad()
    def channel(
        self, images: Float[Tensor, "b 3 h w"], text: TextStates, *, generator: torch.Generator
    ) -> Float[Tensor, "b 3 h w"]:
        """What becomes of pictures that the method knows by heart; one that it copies comes out like this."""
        return self.codec.decode(self.codec.encode(images))

    @abstractmethod
    def losses(self, batch: Batch, *, objective: str, generator: torch.Generator) -> Losses:
        """The loss of `objective` on one batch."""

    @abstractmethod
    def _sample(self, text: TextStates, options: SampleOptions) -> Float[Tensor, "b 3 h w"]:
        """One picture per caption, each from its own generator."""

    @torch.no_grad()
    def sample(
        self,
        text: TextStates,
        *,
        generator: Generators,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        candidates: int | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """One picture per caption; `None` takes the config's value.

        Of several candidates the one is kept whose embedding is nearest to the caption's (re-ranking by CLIP,
        Ramesh 2021, sec. 2.6).

        Raises:
            SalonError: a value is out of the range that the method supports.
        """
        count = self.config.candidates if candidates is None else candidates
        check_range("candidates", count, 1, MAX_CANDIDATES)
        each = [generator] * len(text) if isinstance(generator, torch.Generator) else list(generator)
        if len(each) != len(text):
            raise ValueError(f"{len(each)} generators for {len(text)} captions")
        rows = torch.arange(len(text), device=text.pooled.device).repeat_interleave(count)
        generators = [each[row] for row in rows.tolist()]
        own: float | None = getattr(self.config, "guidance_scale", None)  # a method without guidance has none
        scale = (own or 1.0) if guidance_scale is None else guidance_scale
        check_range("guidance_scale", scale, 1, MAX_GUIDANCE_SCALE if own else 1)
        low, high = self.steps_range
        usual = min(getattr(self.config, "num_inference_steps", high), high)
        steps = usual if num_inference_steps is None else num_inference_steps
        check_range("num_inference_steps", steps, low, high)
        images = self._sample(text if count == 1 else text[rows], SampleOptions(generators, scale, steps))
        if count == 1:
            return images
        similarity = (self.towers.encode_images(images) * text.pooled[rows]).sum(dim=1)  # (b * count)
        best = similarity.unflatten(0, (-1, count)).argmax(dim=1)
        return images.unflatten(0, (-1, count))[torch.arange(len(text)), best]

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        config, shape = self.config.model_dump(mode="json"), asdict(self.shape)
        save_network(folder, self, {"family": family_of(type(self)), "config": config, "shape": shape})


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a `value` of an argument of `sample` that is not from `low` to `high`.

    Raises:
        SalonError: it is not.
    """
    if not low <= value <= high:
        allowed = f"{low:g} to {high:g}" if low < high else f"this method takes {low:g} only"
        raise SalonError(f"{name} {value} is out of range: {allowed}")


METHODS = Families(
    "salon.methods",
    Method,  # type: ignore[type-abstract]  # one is asked for that is not
    what="method",
    apart=("base", "flow_base", "token_base", "vqvae"),
    renamed={"vqvae": "masked_prior"},  # so do models and params.yaml of the release before
)
families, find_method, read_config = METHODS.names, METHODS.find, METHODS.read_config


def load_method(folder: Path, frozen: FrozenNets) -> Method:
    """Read what `save_pretrained` wrote, weights only; `frozen` is what it was trained with.

    Raises:
        SalonError: the folder holds no method.
    """
    description = read_network_config(folder, what="trained method", stage="its train stage")
    method_class = find_method(description["family"])
    config = parse_section(method_class.config_class, description["config"], where=str(folder / CONFIG))
    shape = DataShape(**with_new_names(description["shape"]))
    return load_weights(adopt(method_class(config, shape, frozen)), folder)

"""What a method is, and how it is found, saved and loaded.

A method is a codec (image <-> latent) plus a generator (text -> latent). A family is one module of this
package, found by its name; adding one is adding a file.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

import salon.methods
from salon.codecs import Codec, load_codec
from salon.errors import SalonError
from salon.params import Fraction, Section, parse_section
from salon.towers.states import TextStates
from salon.towers.tower import ClipTower, TwoTowers
from salon.weights import CONFIG, load_weights, read_network_config, save_network

Tradeoff = Literal["num_inference_steps", "candidates"]
Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for the batch, or one for each picture (then a picture does not depend on its batch)."""


MAX_CANDIDATES = 16  # each one costs a picture


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
    words_width: int
    """Width of `TextStates.words`."""


@dataclass(frozen=True)
class Losses:
    """What one optimizer minimises in one step, and its parts for the log."""

    total: Float[Tensor, ""]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


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


class Method(nn.Module, ABC):
    """A text-to-image method. Pictures are float in [-1, 1]; text comes as the frozen tower's states.

    Losses and samplers are pure: tensors and a generator in, tensors out.
    """

    config_class: ClassVar[type[MethodConfig]]
    objectives: ClassVar[tuple[str, ...]] = ("model",)
    """What is minimised in turn within one step, each by its own optimizer."""

    replayable: ClassVar[bool] = False
    """Whether `losses` does the same work on the device in every step, whatever `step` is, changes nothing
    but gradients, and never has the CPU wait for a result: then a GPU may record it once
    (`salon.training.cuda_graph`)."""

    tradeoff: ClassVar[Tradeoff] = "num_inference_steps"
    """The argument of `sample` that buys quality with time."""

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

    def parameters_of(self, objective: str) -> list[nn.Parameter]:
        """The parameters that `objective` trains."""
        return list(self.parameters())

    @property
    def cost_cycle(self) -> int:
        """Steps after which the cost of a step repeats: above 1 where some losses are not due every time."""
        return 1

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Tensor | None:
        """What training needs of each picture beside its pixels, computed once for the whole training set."""
        return None

    @abstractmethod
    def losses(
        self,
        images: Float[Tensor, "b 3 h w"],
        text: TextStates,
        *,
        prepared: Tensor | None,
        objective: str,
        step: int,
        generator: torch.Generator,
    ) -> Losses:
        """The loss of `objective` on one batch; `prepared` is what `prepare` gave for its pictures."""

    def warnings(self, averages: Mapping[str, float]) -> list[str]:
        """What is wrong with a training whose loss terms average to these; empty when nothing is."""
        return []

    @abstractmethod
    def generate(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float | None,
        num_inference_steps: int | None,
    ) -> Float[Tensor, "b 3 h w"]:
        """One picture per caption, each from its own generator; `None` takes the config's value.

        Raises:
            SalonError: a value is out of the range that the method supports.
        """

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
        if not 1 <= count <= MAX_CANDIDATES:
            raise SalonError(f"candidates {count} is out of range: 1 to {MAX_CANDIDATES}")
        each = [generator] * len(text) if isinstance(generator, torch.Generator) else list(generator)
        if len(each) != len(text):
            raise ValueError(f"{len(each)} generators for {len(text)} captions")
        rows = torch.arange(len(text), device=text.pooled.device).repeat_interleave(count)
        images = self.generate(
            text if count == 1 else text[rows],
            generators=each if count == 1 else [each[row] for row in rows.tolist()],
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
        )
        if count == 1:
            return images
        similarity = (self.towers.encode_images(images) * text.pooled[rows]).sum(dim=1)  # (b * count)
        best = similarity.unflatten(0, (-1, count)).argmax(dim=1)
        return images.unflatten(0, (-1, count))[torch.arange(len(text)), best]

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        description = {
            "family": family_of(type(self)),
            "config": self.config.model_dump(mode="json"),
            "shape": asdict(self.shape),
        }
        save_network(folder, self, description)


def families() -> list[str]:
    """Names of the modules of this package that hold a method."""
    return sorted(m.name for m in pkgutil.iter_modules(salon.methods.__path__) if m.name != "base")


RENAMED = {"vqvae": "masked_prior"}  # families as models and params.yaml of the release before name them


def find_method(family: str) -> type[Method]:
    """The one `Method` class of module `salon.methods.<family>`.

    Raises:
        SalonError: there is no such module.
    """
    family = RENAMED.get(family, family)
    if family not in families():
        raise SalonError(f"unknown method family {family!r}: one of {families()}")
    module = importlib.import_module(f"salon.methods.{family}")
    (found,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    )
    return found


def family_of(method: type[Method]) -> str:
    """The family that `find_method` finds `method` by."""
    return method.__module__.rpartition(".")[2]


def read_config(name: str, raw: Mapping[str, Any]) -> tuple[type[Method], MethodConfig]:
    """The class and the checked settings of method `name` of `params.yaml`.

    Raises:
        SalonError: unknown family, unknown key, or a value out of range.
    """
    method = find_method(raw.get("family") or name)
    return method, parse_section(method.config_class, dict(raw), where=f"params.yaml: methods.{name}")


def load_method(folder: Path, frozen: FrozenNets) -> Method:
    """Read what `save_pretrained` wrote; weights only, never pickled classes.

    Args:
        frozen: The codec and the towers that it was trained with.

    Raises:
        SalonError: the folder holds no method.
    """
    description = read_network_config(folder, what="trained method", stage="its train stage")
    method_class = find_method(description["family"])
    config = parse_section(method_class.config_class, description["config"], where=str(folder / CONFIG))
    return load_weights(method_class(config, DataShape(**description["shape"]), frozen), folder)

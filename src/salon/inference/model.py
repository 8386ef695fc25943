"""One registered method, loaded and drawing: what MLflow's server and ours have in common.

The installed package is the code, whatever the version. So a version is asked, before it serves, for the
pictures that it drew when it was registered: code that draws others is not its code.
"""

import base64
import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from salon.codecs import Codec, load_codec
from salon.devices import inference_device
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.images import to_uint8
from salon.inference.bundle import (
    CLIP,
    CODEC,
    GOLDEN_SAMPLES_FILE,
    METHOD,
    PackagedModel,
    read_models,
    write_manifest,
)
from salon.inference.credentials import configured_signer, sign_as_configured
from salon.inference.prompts import PromptEncoder
from salon.inference.provenance import Provenance, encode_png
from salon.inference.request import PictureRequest, RequestError
from salon.methods.base import FrozenNets, Method, load_method
from salon.nn.products import FULL, batch_invariant, padded_count
from salon.towers.tower import ClipTower

logger = logging.getLogger(__name__)

BATCH = FULL  # pictures drawn at once: no more a second in larger batches, and a request waits for one
GOLDEN_SAMPLES = (("an owl on a blue background", 11), ("сова на голубом фоне", 12), ("rocket", 13))
SAME_PICTURE = 4.0  # mean distance in 0..255; another processor rounds, other code draws something else


@dataclass(frozen=True)
class DrawnImage:
    """A drawn picture and what the answer says of it."""

    png: bytes
    request: PictureRequest
    method: str
    model_version: str
    milliseconds: float
    """Time of the batch over its pictures."""
    warnings: list[str]

    def row(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "image_png_base64": base64.b64encode(self.png).decode("ascii"),
            "prompt": self.request.prompt,
            "seed": self.request.seed,
            "method": self.method,
            "model_version": self.model_version,
            "milliseconds": round(self.milliseconds, 2),
            "warnings": self.warnings,
        }


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A method with its codec and towers. Its weights do not change, so that threads may share it."""

    package: PackagedModel
    method: Method
    encoder: PromptEncoder
    version: str
    device: torch.device
    max_batch: int = BATCH
    _exact: dict[tuple[int, int | None, bool], bool] = field(default_factory=dict)
    _verifying: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.package.name

    def draw(
        self, requests: Sequence[PictureRequest], *, check: Callable[[], None] | None = None
    ) -> list[DrawnImage]:
        """At most `max_batch` pictures of the same steps and guidance, together; what `check` raises ends it.

        Raises:
            RequestError: the method does not support these steps or this guidance.
        """
        started = time.perf_counter()
        if len(requests) == 1 or self._is_exact(len(requests), like=requests[0], check=check):
            images = self._sample(requests, check=check)
        else:
            images = torch.cat([self._sample([request], check=check) for request in requests])
        pngs = list(map(self._encode, _to_pixels(images), requests))
        milliseconds = (time.perf_counter() - started) * 1000 / len(requests)
        return [
            DrawnImage(png, each, self.name, self.version, milliseconds, self.encoder.warnings(each.prompt))
            for png, each in zip(pngs, requests, strict=True)
        ]

    def verify_code(self) -> None:
        """Find out whether this is the code of these weights: in fp32, which every processor has.

        Raises:
            SalonError: the installed code draws other pictures than those of the registration.
        """
        drawn = self._golden_pixels()
        if self.package.golden_samples is None:
            return
        record = read_json(self.package.golden_samples)
        if [tuple(sample) for sample in record["probes"]] != list(GOLDEN_SAMPLES):
            return  # of a package that asked for other pictures: nothing to compare
        for picture, recorded in zip(drawn, record["pictures"], strict=True):
            with Image.open(io.BytesIO(base64.b64decode(recorded)), formats=["PNG"]) as image:
                expected = np.asarray(image).astype(int)
            # one is enough: a sampler of codes may fall the other way once on another processor
            if expected.shape == picture.shape and np.abs(expected - picture).mean() <= SAME_PICTURE:
                return
        raise SalonError(
            f"salon-{self.name} version {self.version} does not draw what it drew when it was registered: "
            f"the installed code is not its code; {_remedy(self.package)}"
        )

    def _is_exact(self, count: int, *, like: PictureRequest, check: Callable[[], None] | None) -> bool:
        """Whether batches of this size draw what each picture would be alone, found out when first needed.

        The steps and whether there is guidance matter, too: both change what is multiplied with what.
        """
        size = padded_count(count, self.device)
        steps, unguided = like.num_inference_steps, like.guidance_scale == 1
        with self._verifying:
            if (size, steps, unguided) not in self._exact:
                scale = 1.0 if unguided else None
                golden = [PictureRequest(prompt, seed, steps, scale) for prompt, seed in GOLDEN_SAMPLES]
                requests = [golden[i % len(golden)] for i in range(size)]
                alone = {request: self._sample([request], check=check)[0] for request in set(requests)}
                exact = all(
                    torch.equal(alone[request], image)
                    for request, image in zip(requests, self._sample(requests, check=check), strict=True)
                )
                self._exact[size, steps, unguided] = exact
                if not exact:
                    said = "%s: batches of %d round otherwise on this machine and are drawn one by one"
                    logger.warning(said, self.name, size)
            return self._exact[size, steps, unguided]

    def write_golden_samples(self, path: Path) -> None:
        """Draw the pictures by which other code will be told, in fp32."""
        pngs = []
        for picture in self._golden_pixels():
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, format="PNG")
            pngs.append(base64.b64encode(buffer.getvalue()).decode("ascii"))
        write_json(path, {"probes": GOLDEN_SAMPLES, "pictures": pngs})

    def _golden_pixels(self) -> UInt8[np.ndarray, "b h w 3"]:
        requests = [PictureRequest(prompt, seed, None, None) for prompt, seed in GOLDEN_SAMPLES]
        return _to_pixels(torch.cat([self._sample([request], half=False) for request in requests]))

    def _sample(
        self,
        requests: Sequence[PictureRequest],
        *,
        check: Callable[[], None] | None = None,
        half: bool = True,
    ) -> Float[Tensor, "b 3 h w"]:
        count = len(requests)
        requests = [*requests, *[requests[-1]] * (padded_count(count, self.device) - count)]
        text = self.encoder.encode([request.prompt for request in requests])
        # on the CPU whatever the device is: a seed is the same noise everywhere
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        try:
            with torch.no_grad(), batch_invariant(check, half=half):
                return self.method.sample(
                    text,
                    generator=generators,
                    guidance_scale=requests[0].guidance_scale,
                    num_inference_steps=requests[0].num_inference_steps,
                )[:count]
        except SalonError as error:
            raise RequestError(str(error)) from None

    def _encode(self, pixels: UInt8[np.ndarray, "h w 3"], request: PictureRequest) -> bytes:
        description = self.package.description
        provenance = Provenance(
            **{**vars(request), "method": self.name},
            model_version=self.version,
            data_sha256=description["data_sha256"],
            model_sha256=description["model_sha256"],
        )
        return sign_as_configured(encode_png(pixels, provenance), provenance)


class ModelCache:
    """Loads models; towers and codecs that are equal are loaded once and live as long as anybody's."""

    def __init__(self) -> None:
        configured_signer()  # a certificate that cannot be used is told now, not at the first picture
        self.device = inference_device()
        self._encoders: WeakValueDictionary[str, PromptEncoder] = WeakValueDictionary()
        self._codecs: WeakValueDictionary[str, Codec] = WeakValueDictionary()
        self._lock = threading.Lock()

    def load(self, package: PackagedModel, *, version: str) -> LoadedModel:
        """Read the weights of a method that was found whole, and have it draw.

        Raises:
            SalonError: the installed package is not the code of these weights.
        """
        try:
            with self._lock:
                encoder = self._encoders.get(package.digests[CLIP])
                if encoder is None:
                    encoder = PromptEncoder(ClipTower.load(package.folders[CLIP]).to(self.device))
                    self._encoders[package.digests[CLIP]] = encoder
                codec = self._codecs.get(package.digests[CODEC])
                if codec is None:
                    codec = load_codec(package.folders[CODEC]).to(self.device)
                    self._codecs[package.digests[CODEC]] = codec
            frozen = FrozenNets(codec, encoder.tower.towers)
            method = load_method(package.folders[METHOD], frozen).to(self.device)
        except (SalonError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise SalonError(
                f"salon-{package.name} version {version} is of other code than the installed package "
                f"({reason}); {_remedy(package)}"
            ) from None
        model = LoadedModel(package, method, encoder, version, self.device)
        model.verify_code()
        return model


def add_golden_samples(bundle: Path) -> None:
    """Have the method of a new bundle draw, by which other code will be told; seal the bundle anew."""
    (package,) = read_models(bundle).values()
    ModelCache().load(package, version="to be registered").write_golden_samples(bundle / GOLDEN_SAMPLES_FILE)
    write_manifest(bundle, package.description)


def _to_pixels(images: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()


def _remedy(package: PackagedModel) -> str:
    commit = package.description.get("git_commit")
    known = f"at commit {commit[:12]}" if commit else "that registered it"
    return f"install the salon {known}, or train and register it anew"

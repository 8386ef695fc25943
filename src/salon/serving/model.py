"""The served model, as MLflow runs it: models from code, weights as data, nothing pickled.

MLflow copies this file into every model that it logs. What can change without a new registration lives in the
installed package; loading several versions in one process is then safe.
"""

import base64
import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
import yaml
from mlflow.pyfunc import PythonModel, PythonModelContext

from salon.codecs import load_codec
from salon.data.loader import to_uint8
from salon.errors import SalonError
from salon.methods.base import Frozen, load_method
from salon.serving.bundle import CLIP, CODEC, METHOD, read_bundle
from salon.serving.pictures import encode_png
from salon.serving.provenance import Provenance
from salon.serving.schema import PictureRequest, RequestError, read_requests
from salon.text.tower import ClipTower

BATCH = 16  # pictures drawn at once


class SalonModel(PythonModel):
    """Prompts in, PNG pictures out. Read-only after loading, so that threads may share it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check the files, then read the weights.

        Raises:
            SalonError: the files are not those that were registered.
        """
        bundle = Path(context.artifacts["bundle"])
        self.manifest = read_bundle(bundle)
        self.model_version = _registered_version(bundle) or self.manifest["model_sha256"][:12]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tower = ClipTower.load(bundle / CLIP).to(self.device)
        frozen = Frozen(load_codec(bundle / CODEC), self.tower.towers)
        self.method = load_method(bundle / METHOD, frozen).to(self.device)
        frozen.to(self.device)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw one picture per row, or `num_images` of them.

        Raises:
            RequestError: the request cannot be met.
        """
        requests = read_requests(model_input, params)
        rows: list[Mapping[str, Any]] = []
        for _, group in groupby(requests, key=lambda r: (r.num_inference_steps, r.guidance_scale)):
            alike = list(group)
            for start in range(0, len(alike), BATCH):
                rows += self._draw(alike[start : start + BATCH])
        return pd.DataFrame(rows)

    def _draw(self, requests: list[PictureRequest]) -> list[Mapping[str, Any]]:
        started = time.perf_counter()
        text = self.tower.encode_text([request.prompt for request in requests])
        # on the CPU whatever the device is: a seed is the same noise everywhere
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        try:
            images = self.method.sample(
                text,
                generator=generators,
                guidance_scale=requests[0].guidance_scale,
                num_inference_steps=requests[0].num_inference_steps,
            )
        except SalonError as error:
            raise RequestError(str(error)) from None
        pixels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
        pictures = [
            encode_png(picture, self._provenance(request))
            for picture, request in zip(pixels, requests, strict=True)
        ]
        milliseconds = (time.perf_counter() - started) * 1000 / len(requests)
        return [
            {
                "image_png_base64": base64.b64encode(picture).decode("ascii"),
                "prompt": request.prompt,
                "seed": request.seed,
                "method": self.manifest["method"],
                "model_version": self.model_version,
                "milliseconds": round(milliseconds, 2),
                "warnings": self._warnings(request.prompt),
            }
            for picture, request in zip(pictures, requests, strict=True)
        ]

    def _provenance(self, request: PictureRequest) -> Provenance:
        return Provenance(
            prompt=request.prompt,
            seed=request.seed,
            method=self.manifest["method"],
            model_version=self.model_version,
            data_sha256=self.manifest["data_sha256"],
            model_sha256=self.manifest["model_sha256"],
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
        )

    def _warnings(self, prompt: str) -> list[str]:
        warnings = []
        unknown = self.tower.unknown_words(prompt)
        if unknown:
            warnings.append(f"words never seen in training: {', '.join(unknown)}")
        if self.tower.is_truncated(prompt):
            warnings.append(f"only the first {self.tower.max_tokens} tokens of the prompt were read")
        return warnings


def _registered_version(bundle: Path) -> str | None:
    """The version that MLflow notes beside a model which it fetched from the registry."""
    note = bundle.parents[1] / "registered_model_meta"
    if not note.is_file():
        return None
    return str(yaml.safe_load(note.read_text(encoding="utf-8"))["model_version"])


mlflow.models.set_model(SalonModel())

"""The served model, as MLflow runs it: one method, or all champions and a choice by `method`."""

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.pyfunc import PythonModel, PythonModelContext

from salon.inference.bundle import read_models
from salon.inference.model import DrawnImage, LoadedModel, ModelCache
from salon.inference.request import read_requests


class ServedModel(PythonModel):
    """Prompts in, PNG pictures out. The weights of a method are read when it is first asked for."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check all files; where there is one method, read its weights too.

        Raises:
            SalonError: the files are not those that were registered, or of other code.
        """
        bundle = Path(context.artifacts["bundle"])
        self.packages = read_models(bundle)
        note = bundle.parents[1] / "registered_model_meta"  # by MLflow, beside what it fetched
        registered = str(yaml.safe_load(note.read_bytes())["model_version"]) if note.is_file() else None
        self.versions = {}
        for name, package in self.packages.items():
            noted = package.description.get("version") or registered  # by a bundle of several, or by MLflow
            self.versions[name] = noted or package.description["model_sha256"][:12]
        self._cache = ModelCache()
        self._models: dict[str, LoadedModel] = {}
        self._locks = {name: threading.Lock() for name in self.packages}
        if len(self.packages) == 1:
            self.model(next(iter(self.packages)))

    def model(self, name: str) -> LoadedModel:
        """The loaded method; of threads that ask at once, one loads it."""
        with self._locks[name]:
            if name not in self._models:
                self._models[name] = self._cache.load(self.packages[name], version=self.versions[name])
            return self._models[name]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw one picture per row, or `num_images` of them, by each method that is asked.

        Raises:
            RequestError: the request cannot be met.
        """
        requests = read_requests(model_input, params, methods=list(self.packages))
        groups: dict[Any, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            groups[request.method, request.num_inference_steps, request.guidance_scale].append(i)
        pictures: dict[int, DrawnImage] = {}
        for (name, *_), members in groups.items():
            model = self.model(name)
            for start in range(0, len(members), model.max_batch):
                batch = members[start : start + model.max_batch]
                drawn = model.draw([requests[i] for i in batch])
                pictures |= dict(zip(batch, drawn, strict=True))
        return pd.DataFrame([pictures[i].row() for i in range(len(requests))])

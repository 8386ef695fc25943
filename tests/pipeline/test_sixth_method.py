"""A new method is one file and one entry in `params.yaml`, and everything else follows."""

import re

import pytest
from pipeline_clone import Clone

from salon.jsonfile import read_json

pytestmark = pytest.mark.pipeline

RIDGE = '''"""Linear regression (Hoerl 1970): the mean picture of a caption, and noise for the rest."""

import torch
from torch import nn

from salon.methods.base import Losses, Method, MethodConfig


class RidgeConfig(MethodConfig):
    """Settings of the regression."""

    noise: float = 0.05
    """Standard deviation of what is added to the mean picture."""


class Ridge(Method):
    """A linear map from the caption's embedding to pixels."""

    config_class = RidgeConfig
    dial = "candidates"

    def __init__(self, config, shape, frozen):
        super().__init__(config, shape, frozen)
        self.to_pixels = nn.Linear(shape.pooled_width, 3 * shape.image_size**2)

    def losses(self, images, text, *, prepared, objective, step, generator):
        error = (self.to_pixels(text.pooled) - images.flatten(1)).square().mean()
        return Losses(total=error, terms={"error": error.detach()})

    def generate(self, text, *, generators, guidance_scale, num_inference_steps):
        side = self.shape.image_size
        mean = self.to_pixels(text.pooled).view(-1, 3, side, side)
        noise = torch.stack([torch.randn(3, side, side, generator=each) for each in generators])
        return (mean + self.config.noise * noise).clamp(-1, 1)
'''
ENTRY = """methods:
  ridge:
    family: ridge
    codec: pixels
    lr: 1.0e-2
"""


def test_one_file_and_one_entry_make_a_sixth_method(clone: Clone) -> None:
    before = clone.paths.params.read_text(encoding="utf-8")
    source = clone.root / "src/salon/methods/ridge.py"
    # a regression would spend a whole budget on millions of steps
    smaller = re.sub(r"(?m)^( *train_flops: ).*$", rf"\g<1>{_shared_flops(clone) + 5e9}", before)
    try:
        source.write_text(RIDGE, encoding="utf-8")
        clone.paths.params.write_text(smaller.replace("methods:\n", ENTRY, 1), encoding="utf-8")
        output = clone.run("dvc", "repro", "register@ridge")
        stages = re.findall(r"Running stage '([^']+)'", output)
        assert stages == ["train@ridge", "evaluate@ridge", "register@ridge"]
        assert 0 <= read_json(clone.paths.metrics("ridge"))["test"]["alignment"]["all"]["value"] <= 1
        assert read_json(clone.paths.registration("ridge"))["alias"] == "champion"
        assert "salon-ridge: in step" in clone.run("salon", "sync")
    finally:
        source.unlink(missing_ok=True)
        clone.paths.params.write_text(before, encoding="utf-8")


def _shared_flops(clone: Clone) -> float:
    return read_json(clone.paths.clip_metrics)["cost"]["train_flops"]

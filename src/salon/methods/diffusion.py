"""Diffusion as rectified flow, guided by text.

Rectified flow (Liu 2022, eq. 1; in the notation of Esser 2024, sec. 2) as `salon.nn.flow` has it: the network
predicts the picture and the loss compares velocities, since a network this small leaves visible noise when it
has to predict noise itself. Noise levels are drawn logit-normally (Esser 2024, eq. 19). Captions are dropped
at random, so that one network gives the guided and the unguided velocity (Ho 2022).

Departures: FiLM by a linear map of the caption's words, and a layout painted from it. Guidance can be kept to
an interval of noise levels (Kynkäänniemi 2024), which saves the second network pass elsewhere.
At inference the solver is a scheduler of diffusers, chosen by name.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets, Losses, Method, MethodConfig
from salon.nn.flow import MAX_STEPS, MIN_SIGMA, check_steps, velocity_loss
from salon.nn.guidance import MAX_GUIDANCE_SCALE, check_guidance
from salon.nn.unet import FourierEmbedding, UNet
from salon.params import Fraction
from salon.towers.states import TextStates

SolverName = Literal["euler", "heun", "unipc", "dpm++"]


class DiffusionConfig(MethodConfig):
    """Settings of the rectified flow."""

    batch_size: int = Field(16, ge=1)
    """Pictures per optimizer step; many small updates beat fewer large ones here."""
    channels: list[int] = Field([48, 64, 128], min_length=1)
    """U-Net width per level; each level halves the grid."""
    blocks_per_level: int = Field(1, ge=1)
    """Residual blocks per level on the way down, and again on the way up."""
    attention_levels: list[int] = Field([])
    """Levels whose cells attend to the caption's tokens."""
    layout_levels: list[int] | None = None
    """Levels on whose grid the condition paints a coarse layout; the two coarsest when not given."""
    condition_width: int = Field(256, ge=8)
    """Width of the vector of noise level and caption that modulates every block."""
    patch: int = Field(2, ge=1)
    """Pixels are folded into channels in patch x patch blocks; higher is cheaper and coarser."""
    caption_dropout: Fraction = 0.1
    """Share of captions replaced by the null caption, for classifier-free guidance."""
    logit_mean: float = 0.8
    """Mean of logit(sigma) in training; higher favours noisier pictures, where shapes are decided."""
    logit_std: float = Field(1.2, gt=0)
    """Standard deviation of logit(sigma) in training."""
    solver: SolverName = "euler"
    """Default solver."""
    num_inference_steps: int = Field(8, ge=1, le=MAX_STEPS)
    """Default number of solver steps."""
    guidance_scale: float = Field(2.0, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of guidance; 1 is none."""
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Noise levels sigma between which guidance is applied."""


class Diffusion(Method):
    """Rectified flow on the codec's latents."""

    config_class: ClassVar[type[MethodConfig]] = DiffusionConfig
    replayable: ClassVar[bool] = True
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        width = config.condition_width
        channels, side, _ = self.codec.latent_shape(shape.image_size)
        coarsest = config.patch * 2 ** (len(config.channels) - 1)
        if side % coarsest:
            raise SalonError(
                f"diffusion: latents of side {side} cannot be folded by patch {config.patch} and halved "
                f"{len(config.channels) - 1} times; make the side a multiple of {coarsest}"
            )
        levels = range(len(config.channels))
        for name in ("attention_levels", "layout_levels"):
            unknown = [level for level in getattr(config, name) or [] if level not in levels]
            if unknown:
                raise SalonError(f"diffusion: {name} has {unknown}; the levels are 0 to {levels[-1]}")
        self.time = nn.Sequential(
            FourierEmbedding(128), nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width)
        )
        # linear: what the caption's parts add up to, so that unseen combinations stay near their parts
        self.caption = nn.Linear(shape.words_width, width)
        self.null_words = nn.Parameter(torch.zeros(shape.words_width))
        # without attention nothing reads the tokens, and there is no null token to learn
        self.null_token = nn.Parameter(
            torch.zeros(shape.text_width), requires_grad=bool(config.attention_levels)
        )
        self.unet = UNet(
            in_channels=channels,
            channels=config.channels,
            blocks_per_level=config.blocks_per_level,
            attention_levels=config.attention_levels,
            layout_levels=list(levels)[-2:] if config.layout_levels is None else config.layout_levels,
            side=side,
            condition_width=width,
            text_width=shape.text_width,
            patch=config.patch,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(
        self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"], text: TextStates
    ) -> Float[Tensor, "b c h w"]:
        """E[x | x_sigma, caption]."""
        condition = nn.functional.silu(self.time(sigma) + self.caption(text.words))
        return self.unet(x, condition, text.tokens, text.mask)

    def velocity(
        self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"], text: TextStates
    ) -> Float[Tensor, "b c h w"]:
        """v(x_sigma, sigma, caption) = E[eps - x]."""
        return (x - self.predict(x, sigma, text)) / sigma.clamp(min=MIN_SIGMA)[:, None, None, None]

    def with_null_captions(self, text: TextStates, dropped: Tensor) -> TextStates:
        """`text` with the captions marked in `dropped` (b,) replaced by the learned null caption."""
        first = torch.zeros_like(text.mask)
        first[:, 0] = True  # the null caption is one token
        return TextStates(
            tokens=torch.where(dropped[:, None, None], self.null_token, text.tokens),
            mask=torch.where(dropped[:, None], first, text.mask),
            pooled=text.pooled,
            words=torch.where(dropped[:, None], self.null_words, text.words),
        )

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
        """Squared error of the velocity (Esser 2024, eq. 14), some captions dropped."""
        drawn = torch.rand(len(text), generator=generator, device=generator.device).to(images.device)
        text = self.with_null_captions(text, drawn < self.config.caption_dropout)
        loss = velocity_loss(
            lambda x, sigma: self.predict(x, sigma, text),
            self.codec.encode(images),
            logit_mean=self.config.logit_mean,
            logit_std=self.config.logit_std,
            generator=generator,
        )
        return Losses(total=loss, terms={"velocity": loss.detach()})

    def generate(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float | None,
        num_inference_steps: int | None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Integrate the flow from noise (sigma = 1) to a picture (sigma = 0)."""
        from diffusers.utils.torch_utils import randn_tensor

        config = self.config
        scale = check_guidance(config.guidance_scale if guidance_scale is None else guidance_scale)
        steps = check_steps(
            config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        scheduler = make_scheduler(config.solver)
        scheduler.set_timesteps(steps, device=text.tokens.device)
        b = len(text)
        shape = (b, *self.codec.latent_shape(self.shape.image_size))
        x = randn_tensor(shape, generator=list(generators), device=text.tokens.device)
        both = text.concat(self.with_null_captions(text, torch.ones_like(text.mask[:, 0])))
        low, high = config.guidance_interval
        for t in scheduler.timesteps:
            sigma = float(t) / scheduler.config.num_train_timesteps
            if scale > 1 and low <= sigma <= high:
                guided, free = self.velocity(x.repeat(2, 1, 1, 1), x.new_full((2 * b,), sigma), both).chunk(2)
                v = free + scale * (guided - free)
            else:
                v = self.velocity(x, x.new_full((b,), sigma), text)
            x = scheduler.step(v, t, x).prev_sample
        return self.codec.decode(x).clamp(-1, 1)


def make_scheduler(name: SolverName) -> Any:
    """The diffusers scheduler behind a solver's name, set up for rectified flow.

    Raises:
        SalonError: unknown name.
    """
    import diffusers

    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    match name:
        case "euler":
            return diffusers.FlowMatchEulerDiscreteScheduler()
        case "heun":
            return diffusers.FlowMatchHeunDiscreteScheduler()
        case "unipc":
            return diffusers.UniPCMultistepScheduler(**flow)
        case "dpm++":
            return diffusers.DPMSolverMultistepScheduler(**flow)
    raise SalonError(f"unknown solver {name!r}: one of euler, heun, unipc, dpm++")

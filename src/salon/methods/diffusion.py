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
from salon.methods.base import DataShape, FrozenNets, MethodConfig
from salon.methods.flow_base import FlowConfig, FlowMethod
from salon.nn.flow import MIN_SIGMA, velocity_loss
from salon.nn.trainable import Losses
from salon.params import Fraction
from salon.towers.states import Batch, TextStates

SolverName = Literal["euler", "heun", "unipc", "dpm++"]


class DiffusionConfig(FlowConfig):
    """Settings of the rectified flow."""

    attention_levels: list[int] = Field([])
    """Levels whose cells attend to the caption's tokens."""
    layout_levels: list[int] | None = None
    """Levels on whose grid the condition paints a coarse layout; the two coarsest when not given."""
    caption_dropout: Fraction = 0.1
    """Share of captions replaced by the null caption, for classifier-free guidance."""
    solver: SolverName = "euler"
    """Default solver."""
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Noise levels sigma between which guidance is applied."""


class Diffusion(FlowMethod):
    """Rectified flow on the codec's latents."""

    config_class: ClassVar[type[MethodConfig]] = DiffusionConfig
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        levels = range(len(config.channels))
        for name in ("attention_levels", "layout_levels"):
            unknown = [level for level in getattr(config, name) or [] if level not in levels]
            if unknown:
                raise SalonError(f"diffusion: {name} has {unknown}; the levels are 0 to {levels[-1]}")
        # linear: what the caption's parts add up to, so that unseen combinations stay near their parts
        self.caption = nn.Linear(shape.words_width, config.condition_width)
        self.null_words = nn.Parameter(torch.zeros(shape.words_width))
        # without attention nothing reads the tokens, and there is no null token to learn
        self.null_token = nn.Parameter(
            torch.zeros(shape.text_width), requires_grad=bool(config.attention_levels)
        )
        self.unet = self.build_unet(
            text_width=shape.text_width,
            attention_levels=config.attention_levels,
            layout_levels=config.layout_levels,
        )

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

    def losses(self, batch: Batch, *, objective: str, generator: torch.Generator) -> Losses:
        """Squared error of the velocity (Esser 2024, eq. 14), some captions dropped."""
        images = batch.images
        drawn = torch.rand(len(images), generator=generator, device=generator.device).to(images.device)
        text = self.with_null_captions(batch.text, drawn < self.config.caption_dropout)
        loss = velocity_loss(
            lambda x, sigma: self.predict(x, sigma, text),
            self.codec.encode(images),
            logit_mean=self.config.logit_mean,
            logit_std=self.config.logit_std,
            generator=generator,
        )
        return Losses(total=loss, terms={"velocity": loss.detach()})

    def _sample(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float,
        num_inference_steps: int,
    ) -> Float[Tensor, "b 3 h w"]:
        """Integrate the flow from noise (sigma = 1) to a picture (sigma = 0)."""
        from diffusers.utils.torch_utils import randn_tensor

        config = self.config
        scale = guidance_scale
        scheduler = make_scheduler(config.solver)
        scheduler.set_timesteps(num_inference_steps, device=text.tokens.device)
        b = len(text)
        shape = (b, *self.latent_shape)
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

"""Generation steered by the contrastive model: a decoder of what the image tower sees.

unCLIP (Ramesh 2022, sec. 2.1) inverts the image tower: a network draws a picture from its embedding. It
learns from pictures alone; no caption is ever read. At inference a caption takes the picture's place, since
contrastive towers put it where its pictures are (LAFITE, Zhou 2022, sec. 3).

What is decoded is the embedding along the canonical directions that captions share with pictures
(`salon.towers.cca`), each of unit variance. There a caption's words are the best linear guess of its picture,
so that no noise on the embedding and no prior network has to bridge the modality gap (Liang 2022), and the
guess is additive: an unseen combination lies where its parts put it.

The decoder is a rectified flow (`salon.nn.flow`). Embeddings are dropped at random for classifier-free
guidance (Ho 2022). At inference each predicted picture is also moved along the gradient of its cosine with
the caption (CLIP guidance, Nichol 2022, sec. 2.3; on the prediction, Bansal 2023, eq. 4). Departures there:
the gradient does not run through the decoder, has a fixed length, and leaves the last steps alone, in which
it would draw a pattern that pleases the tower and nobody else.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets, Losses, Method, MethodConfig
from salon.nn.flow import MAX_STEPS, check_steps, euler, velocity_loss
from salon.nn.guidance import MAX_GUIDANCE_SCALE, check_guidance
from salon.nn.unet import FourierEmbedding, UNet
from salon.params import Fraction
from salon.towers.states import TextStates


class ClipConfig(MethodConfig):
    """Settings of the decoder and of how captions steer it."""

    batch_size: int = Field(16, ge=1)
    """Pictures per optimizer step; many small updates beat fewer large ones here."""
    channels: list[int] = Field([48, 64, 128], min_length=1)
    """U-Net width per level; each level halves the grid."""
    blocks_per_level: int = Field(1, ge=1)
    """Residual blocks per level on the way down, and again on the way up."""
    condition_width: int = Field(256, ge=8)
    """Width of the vector of noise level and embedding that modulates every block."""
    patch: int = Field(2, ge=1)
    """Pixels are folded into channels in patch x patch blocks; higher is cheaper and coarser."""
    embedding_dropout: Fraction = 0.1
    """Share of embeddings replaced by the null embedding, for classifier-free guidance."""
    logit_mean: float = 0.8
    """Mean of logit(sigma) in training; higher favours noisier pictures, where shapes are decided."""
    logit_std: float = Field(1.2, gt=0)
    """Standard deviation of logit(sigma) in training."""
    num_inference_steps: int = Field(8, ge=1, le=MAX_STEPS)
    """Default number of solver steps."""
    guidance_scale: float = Field(2.0, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of classifier-free guidance; 1 is none."""
    refinement: float = Field(0.15, ge=0)
    """How far CLIP guidance moves each predicted picture (RMS, pictures in [-1, 1]); 0 is none."""
    refinement_interval: tuple[Fraction, Fraction] = (0.2, 0.8)
    """Noise levels sigma between which CLIP guidance is applied."""


class Clip(Method):
    """Decoder of image embeddings, driven by the words of a caption."""

    config_class: ClassVar[type[MethodConfig]] = ClipConfig
    replayable: ClassVar[bool] = True
    config: ClipConfig

    def __init__(self, config: ClipConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        width = config.condition_width
        channels, side, _ = self.codec.latent_shape(shape.image_size)
        coarsest = config.patch * 2 ** (len(config.channels) - 1)
        if side % coarsest:
            raise SalonError(
                f"clip: latents of side {side} cannot be folded by patch {config.patch} and halved "
                f"{len(config.channels) - 1} times; make the side a multiple of {coarsest}"
            )
        self.time = nn.Sequential(
            FourierEmbedding(128), nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.embedding = nn.Linear(shape.words_width, width)
        self.null_embedding = nn.Parameter(torch.zeros(shape.words_width))
        self.unet = UNet(
            in_channels=channels,
            channels=config.channels,
            blocks_per_level=config.blocks_per_level,
            attention_levels=[],
            layout_levels=list(range(len(config.channels)))[-2:],
            side=side,
            condition_width=width,
            text_width=shape.words_width,
            patch=config.patch,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(
        self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"], embedding: Float[Tensor, "b w"]
    ) -> Float[Tensor, "b c h w"]:
        """E[x | x_sigma, embedding]."""
        condition = F.silu(self.time(sigma) + self.embedding(embedding))
        # without attention the network reads no token
        return self.unet(x, condition, embedding[:, None], sigma.new_ones(len(x), 1, dtype=torch.bool))

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b w"]:
        """What the image tower sees in each picture, in the directions of words."""
        return self.towers.encode_words(images)

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
        """Squared error of the velocity, given the embedding of the picture; `text` is not read."""
        assert prepared is not None
        drawn = torch.rand(len(images), generator=generator, device=generator.device).to(images.device)
        dropped = drawn < self.config.embedding_dropout
        embedding = torch.where(dropped[:, None], self.null_embedding, prepared)
        loss = velocity_loss(
            lambda x, sigma: self.predict(x, sigma, embedding),
            self.codec.encode(images),
            logit_mean=self.config.logit_mean,
            logit_std=self.config.logit_std,
            generator=generator,
        )
        return Losses(total=loss, terms={"velocity": loss.detach()})

    def towards(
        self, x: Float[Tensor, "b c h w"], target: Float[Tensor, "b e"], *, rms: float
    ) -> Float[Tensor, "b c h w"]:
        """Latents moved by `rms` up the gradient of the cosine of picture and caption."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            cosine = (self.towers.encode_images(self.codec.decode(x)) * target).sum()
            (gradient,) = torch.autograd.grad(cosine, x)
        length = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return x.detach() + rms * gradient / length.clamp(min=torch.finfo(length.dtype).tiny)

    def generate(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float | None,
        num_inference_steps: int | None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the caption's words as if they were seen in a picture."""
        config = self.config
        scale = check_guidance(config.guidance_scale if guidance_scale is None else guidance_scale)
        steps = check_steps(
            config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        embedding = text.words
        both = torch.cat([embedding, self.null_embedding.expand_as(embedding)])
        target = text.pooled.clone()  # a tensor from inference mode cannot take part in a gradient

        low, high = config.refinement_interval

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            if scale == 1:
                predicted = self.predict(x, sigma, embedding)
            else:
                steered, free = self.predict(x.repeat(2, 1, 1, 1), sigma.repeat(2), both).chunk(2)
                predicted = free + scale * (steered - free)
            if config.refinement and low <= float(sigma[0]) <= high:
                predicted = self.towards(predicted, target, rms=config.refinement)
            return predicted

        shape = self.codec.latent_shape(self.shape.image_size)
        noise = torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
        x = euler(guided, noise.to(embedding.device), num_steps=steps)
        return self.codec.decode(x).clamp(-1, 1)

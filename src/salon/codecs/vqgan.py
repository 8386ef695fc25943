"""VQ-GAN: a VQ-VAE whose decoder also has to look real, patch by patch (Esser 2021).

The VQ-VAE's loss minus lambda D(x'), where D tells real patches from reconstructed ones by the hinge loss
max(0, 1 - D(x)) + max(0, 1 + D(x')) (Esser 2021, sec. 3.1; Isola 2017 for the patches).

Departures: it starts from a trained VQ-VAE, so that a short fine-tuning is enough; the weight of the
adversary is a constant that rises from zero, not a ratio of gradients; no pretrained perceptual network.
The discriminator sees the picture and its reconstruction together in one batch and steps at the same time.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from salon.codecs.base import CodecConfig, CodecTask
from salon.codecs.vqvae import VqVae, VqVaeConfig, reconstruction_error
from salon.nn.patch_discriminator import PatchDiscriminator
from salon.nn.trainable import Losses
from salon.params import Fraction


class VqGanConfig(VqVaeConfig):
    """Settings of the adversarial fine-tuning; the networks are those of the codec that it starts from."""

    start: str = "vqvae"
    """Codec whose networks and codebook are trained further."""
    max_steps: int = Field(900, ge=1)
    """Training steps, on top of the first codec's."""
    lr: float = Field(5e-4, gt=0)
    """Peak learning rate of the codec and of the discriminator."""
    unquantised_fraction: Fraction = 0.0
    """Share of the steps before the codebook is used; the codebook is the first codec's."""
    adversarial_weight: float = Field(0.1, ge=0)
    """lambda: how much looking real counts against being exact; soft at 0.03, rough at 0.3."""
    adversarial_warmup_fraction: Fraction = 0.2
    """Share of the steps over which the adversary's weight rises from zero."""
    discriminator_channels: list[int] = Field([32, 64], min_length=1)
    """Widths of the discriminator's levels; each one halves the grid."""


class VqGan(VqVae):
    """A VQ-VAE, trained further."""

    config_class: ClassVar[type[CodecConfig]] = VqGanConfig
    config: VqGanConfig

    def task(self) -> CodecTask:
        return AdversarialReconstruction(self)


class AdversarialReconstruction(CodecTask):
    """Autoencoding against a discriminator, which is thrown away afterwards."""

    def __init__(self, codec: VqGan) -> None:
        super().__init__()
        self.codec: VqGan = codec
        self.discriminator = PatchDiscriminator(codec.config.discriminator_channels)

    def losses(
        self, batch: Float[Tensor, "b 3 h w"], *, objective: str, generator: torch.Generator
    ) -> Losses:
        images, config = batch, self.codec.config
        z_q, quantized = self.codec.quantise(self.codec.embed(images), generator)
        reconstructed = self.codec.decoder(z_q)
        error = reconstruction_error(reconstructed, images, config)

        self.discriminator.requires_grad_(False)  # the codec's loss must not train it
        realism = self.discriminator(reconstructed).mean()
        self.discriminator.requires_grad_(True)
        real, fake = self.discriminator(torch.cat([images, reconstructed.detach()])).chunk(2)
        discriminator = (F.relu(1 - real) + F.relu(1 + fake)).mean()

        ramp = min(1.0, self.progress / max(config.adversarial_warmup_fraction, 1e-8))
        codec = error + config.commitment_weight * quantized.commitment
        codec = codec - config.adversarial_weight * ramp * realism
        terms = {
            "reconstruction": error.detach(),
            "commitment": quantized.commitment.detach(),
            "realism": realism.detach(),
            "discriminator": discriminator.detach(),
        }
        self.codes = quantized.codes.view(len(images), -1)
        return Losses(codec + discriminator, terms)

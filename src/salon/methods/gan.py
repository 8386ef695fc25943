"""A generative adversarial network: one forward pass per picture.

The relativistic pairing loss with zero-centred gradient penalties on both sides (R3GAN, Huang 2024, eq. 2 and
sec. 2.2; Jolicoeur-Martineau 2018): with a real x and a fake x' = G(z, c) of the same caption c,

    L_D = softplus(D(x', c) - D(x, c)) + gamma/2 (|dD(x, c)/dx|^2 + |dD(x', c)/dx'|^2)
    L_G = softplus(D(x, c) - D(x', c))

To it comes a matching-aware term (Reed 2016, sec. 4.2; Tao 2022): D must prefer a real picture's own caption
to the captions of the rest of the batch, log(1 + sum_j exp(D(x, c_j) - D(x, c))). D is a projection
discriminator (Miyato 2018), so that all these captions cost one pass.

And to L_G comes the energy score of the caption's pictures (Gneiting 2007, sec. 4.3; as a loss of a generator
Bouchacourt 2016), both averaged to coarse blocks, with |.| the RMS and x'' a second fake of the caption:

    E|x' - x| - E|x' - x''| / 2

The first part is a distance from the real picture, as in pix2pix (Isola 2017, eq. 4), and teaches the caption
early. Alone it asks for one picture per caption, and gets it: 0.13 of the variety of real pictures at the
default budget. The score is smallest where fakes are spread as real pictures are, neither less nor more; a
term that only drives fakes apart (Mao 2019) needs a bound from somewhere.

Departures from R3GAN: G has normalisation and FiLM (there neither network has any), both have plain residual
blocks in place of grouped bottlenecks; the learning rate is flat before it falls to zero, and gamma and
beta2 stay as they are, where there all three follow a cosine; batches of 8; the penalties are taken in every
step on a part of the batch, which costs what taking them every few steps on all of it does; gradients are
clipped; no augmentation.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets, Method, MethodConfig, SampleOptions
from salon.nn.discriminator import ProjectionDiscriminator
from salon.nn.distributed import gather, own_rows, processes
from salon.nn.generator import Generator
from salon.nn.layers import Pyramid
from salon.nn.noise import batch_noise, own_noise
from salon.nn.trainable import Losses
from salon.params import Fraction
from salon.towers.states import Batch, TextStates

SAME_CAPTION = 0.99  # cosine above which another caption of the batch is no mismatch
COLLAPSED = 0.3  # diversity within a caption below which it is mode collapse
SETTLED = 0.5  # share of the training from which on it is looked at: before, fakes are far from all reals
EPS = 1e-8  # the square root's slope at 0 is infinite
OVERPOWERED = 0.01  # L_D without its other terms below which fakes are told from reals without a doubt


class GANConfig(MethodConfig):
    """Settings of the adversarial networks."""

    batch_size: int = Field(8, ge=1)
    """Pictures per optimizer step; many small updates beat fewer large ones here."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's moment decays; no momentum, since the opponent moves."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (AdamW)."""
    latent_width: int = Field(64, ge=1)
    """Width of the noise z."""
    condition_width: int = Field(256, ge=8)
    """Width of the vector of noise and caption that modulates the generator."""
    generator_channels: list[int] = Field([48, 96, 128], min_length=1)
    """Generator width per level; each level halves the grid."""
    discriminator_channels: list[int] = Field([48, 96, 128], min_length=1)
    """Discriminator width per level; each level halves the grid."""
    feature_width: int = Field(256, ge=8)
    """Width of what the discriminator compares with captions."""
    blocks_per_level: int = Field(1, ge=1)
    """Residual blocks per level of both networks."""
    patch: int = Field(2, ge=1)
    """Pixels are folded into channels in patch x patch blocks; higher is cheaper and coarser."""
    gamma: float = Field(1.0, ge=0)
    """Strength of both gradient penalties; higher is steadier and slower. Grows with the picture's area."""
    penalised_fraction: Fraction = 0.25
    """Share of each batch on which the penalties are taken, at least one picture of each side."""
    matching_weight: float = Field(1.0, ge=0)
    """Weight of preferring a picture's own caption to the others of its batch."""
    energy_weight: float = Field(10.0, ge=0)
    """Weight of the energy score; 0 leaves the caption's variety to the game, which loses it."""
    energy_block: int = Field(4, ge=1)
    """Side in pixels of the blocks that are compared; 1 compares pixels, which blurs what varies."""


class GAN(Method):
    """Relativistic conditional GAN on pixels."""

    progress: Float[Tensor, ""]

    config_class: ClassVar[type[MethodConfig]] = GANConfig
    replayable: ClassVar[bool] = True
    objectives: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    held_out_objectives: ClassVar[tuple[str, ...]] = ()  # a game has no likelihood
    training_only: ClassVar[tuple[str, ...]] = ("discriminator",)
    config: GANConfig

    def __init__(self, config: GANConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        side = shape.image_size
        if self.codec.latent_shape(side) != (3, side, side):
            raise SalonError(f"gan: codec {config.codec!r} is not one of pixels; use codec: pixels")
        pyramid = partial(Pyramid, blocks_per_level=config.blocks_per_level, patch=config.patch, side=side)
        self.generator = Generator(
            pyramid(config.generator_channels, what="gan, generator_channels: pictures"),
            latent_width=config.latent_width,
            concept_width=shape.concept_width,
            condition_width=config.condition_width,
        )
        self.discriminator = ProjectionDiscriminator(
            pyramid(config.discriminator_channels, what="gan, discriminator_channels: pictures"),
            concept_width=shape.concept_width,
            feature_width=config.feature_width,
        )
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def before_step(self, progress: float) -> None:
        self.progress.fill_(progress)  # in place: a recorded step reads it where it lies

    def parameters_of(self, objective: str) -> list[torch.nn.Parameter]:
        return list(self.get_submodule(objective).parameters())

    def losses(self, batch: Batch, *, objective: str, generator: torch.Generator) -> Losses:
        """L_D or L_G."""
        images, text, width = batch.images, batch.text, self.config.latent_width
        z, other = batch_noise(len(images), 2, width, generator=generator, device=images.device).unbind(dim=1)
        with torch.no_grad():
            others = self.generator(other, text.concept)
        if objective == "discriminator":
            return self.discriminator_losses(images, others, text.concept, same_captions(gather(text.pooled)))
        return self.generator_losses(images, self.generator(z, text.concept), others, text.concept)

    def discriminator_losses(
        self,
        reals: Float[Tensor, "b 3 h w"],
        fakes: Float[Tensor, "b 3 h w"],
        concept: Float[Tensor, "b w"],
        same: Bool[Tensor, "n n"],
    ) -> Losses:
        """Tell reals from fakes, and a real picture's caption from others; flat around both.

        Pictures are compared with all n captions of the batch, whichever process they are with.
        """
        config, n = self.config, len(same)
        features = self.discriminator.features(torch.cat([reals, fakes]))
        features = torch.cat([gather(half) for half in features.chunk(2)])
        logits = self.discriminator.logits(features, gather(concept))  # (2n, n): every picture, every caption
        real, fake = logits[:n].diagonal(), logits[n:].diagonal()
        adversarial = F.softplus(fake - real).mean()
        matching = matching_loss(logits[:n], same)
        # R1 + R2 on the first pairs of the whole batch, in one pass: this process's part of their mean
        penalised = max(1, round(config.penalised_fraction * n))
        penalty, own = reals.new_zeros(()), own_rows(penalised)
        if own:
            pairs, captions = torch.cat([reals[:own], fakes[:own]]), concept[:own].repeat(2, 1)
            penalty = self.gradient_penalty(pairs, captions) * (2 * own * processes()[1] / penalised)
        return Losses(
            total=adversarial + config.matching_weight * matching + config.gamma / 2 * penalty,
            terms={
                "adversarial": adversarial.detach(),
                "matching": matching.detach(),
                "penalty": penalty.detach(),
                "margin": (real - fake).mean().detach(),
            },
        )

    def generator_losses(
        self,
        reals: Float[Tensor, "b 3 h w"],
        fakes: Float[Tensor, "b 3 h w"],
        others: Float[Tensor, "b 3 h w"],
        concept: Float[Tensor, "b w"],
    ) -> Losses:
        """Look more real than the real picture of the same caption, and be spread like it from far away.

        `others` are more fakes of the same captions, and no gradient reaches them.
        """
        # constants, so that no gradient is computed for the opponent's weights
        opponent = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        with torch.no_grad():
            real = self.discriminator(reals, concept)
        fake = functional_call(self.discriminator, opponent, (fakes, concept))
        adversarial = F.softplus(real - fake).mean()
        coarse = [F.avg_pool2d(each, self.config.energy_block) for each in (fakes, others, reals)]
        energy = energy_score(*coarse)
        return Losses(
            total=adversarial + self.config.energy_weight * energy,
            terms={
                "fooling": adversarial.detach(),
                "energy": energy.detach(),
                "diversity": diversity(*(gather(each.detach()) for each in coarse)),
            },
        )

    def warnings(self, averages: Mapping[str, float]) -> list[str]:
        """Mode collapse, and a discriminator that the generator cannot follow."""
        collapsed = (
            f"mode collapse: pictures of one caption vary {averages['diversity']:.2f} times as much as real "
            "ones; raise energy_weight or gamma"
        )
        overpowered = "the discriminator knows every fake, so that it teaches nothing; raise gamma"
        found = {
            collapsed: float(self.progress) >= SETTLED and averages["diversity"] < COLLAPSED,
            overpowered: averages["adversarial"] < OVERPOWERED,
        }
        return [warning for warning, holds in found.items() if holds]

    def gradient_penalty(
        self, images: Float[Tensor, "n 3 h w"], concept: Float[Tensor, "n w"]
    ) -> Float[Tensor, ""]:
        """E |dD(x, c)/dx|^2: R1 on reals, R2 on fakes (Mescheder 2018, eq. 9 and 10)."""
        images = images.detach().requires_grad_()
        # forward: the FLOP counter's hooks on calls cannot follow a gradient into a leaf
        score = self.discriminator.forward(images, concept).sum()
        (gradient,) = torch.autograd.grad(score, images, create_graph=True)
        return gradient.square().sum(dim=(1, 2, 3)).mean()

    def _sample(self, text: TextStates, options: SampleOptions) -> Float[Tensor, "b 3 h w"]:
        """One pass of the generator."""
        z = own_noise([self.config.latent_width], options.generators, device=text.concept.device)
        return self.generator(z, text.concept)


def same_captions(pooled: Float[Tensor, "b e"]) -> Bool[Tensor, "b b"]:
    """Where two captions of a batch, as unit vectors, say the same."""
    return pooled @ pooled.T > SAME_CAPTION


def matching_loss(logits: Float[Tensor, "b b"], same: Bool[Tensor, "b b"]) -> Float[Tensor, ""]:
    """log(1 + sum_j exp(D(x_i, c_j) - D(x_i, c_i))) over the captions j that say something else than i."""
    own = torch.arange(len(logits), device=logits.device)
    repeated = same & (own[:, None] != own)
    return F.cross_entropy(logits.masked_fill(repeated, -torch.inf), own)


def energy_score(
    fakes: Float[Tensor, "b 3 h w"], others: Float[Tensor, "b 3 h w"], reals: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """|x' - x| - |x' - x''|, whose gradient in x' alone is on average that of E|x' - x| - E|x' - x''| / 2.

    Half a distance between two that are moved pulls as much as a whole one of which one is moved.
    """

    def distance(against: Tensor) -> Tensor:
        return (fakes - against).square().mean(dim=(1, 2, 3)).add(EPS).sqrt()

    return (distance(reals) - distance(others)).mean()


def diversity(
    fakes: Float[Tensor, "b 3 h w"], others: Float[Tensor, "b 3 h w"], reals: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Standard deviation of fakes within a caption as a share of that of real pictures.

    A batch seldom has two real pictures of one caption, but each fake has one to differ from. Where both are
    distributed about one mean, E(x' - x)^2 is the sum of their variances and E(x' - x'')^2 twice that of
    fakes. What the means differ by counts as variety of real pictures, so that the figure is rather too low
    than too high: 0.60 where pairs of real pictures say 0.68, 0.12 where they say 0.14.
    """
    among = (fakes - others).square().mean()
    across = ((fakes - reals).square().mean() + (others - reals).square().mean()) / 2
    return (among / (2 * across - among).clamp(min=EPS)).sqrt()

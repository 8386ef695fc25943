"""The adversarial losses against cases with a known answer."""

import math

import pytest
import torch

from frozen_nets import pixel_frozen
from salon.codecs.pixels import PixelCodec
from salon.data.dataset import CaptionedImages
from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets
from salon.methods.gan import GAN, GANConfig, diversity, energy_score, matching_loss, same_captions
from salon.towers.states import Batch, TextStateCache, TextStates
from salon.training.cost import count_step_flops
from salon.training.method import MethodBatches
from salon.training.module import Optimization, TrainingModule

SHAPE = DataShape(image_size=16, text_width=8, pooled_width=8, concept_width=8)
FROZEN = pixel_frozen(SHAPE.pooled_width)
LOG2 = math.log(2)


def make_gan(**settings: object) -> GAN:
    torch.manual_seed(0)
    return GAN(GANConfig(family="gan", **settings), SHAPE, FROZEN)


def make_text(count: int) -> TextStates:
    generator = torch.Generator().manual_seed(0)
    return TextStates(
        torch.randn(count, 4, 8, generator=generator),
        torch.ones(count, 4, dtype=torch.bool),
        torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=1),
        torch.randn(count, 8, generator=generator),
    )


def losses(method: GAN, objective: str, *, count: int = 6):
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return method.losses(
        Batch(images, make_text(count)), objective=objective, generator=torch.Generator().manual_seed(2)
    )


class SumDiscriminator(torch.nn.Module):
    """D(x, c) = slope * sum(x), whatever the caption: its gradient is known."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.slope * images.flatten(1).sum(dim=1, keepdim=True)

    def logits(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return features.expand(-1, len(words))

    def forward(self, images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return self.logits(self.features(images), words).diagonal()


def test_the_penalty_is_the_squared_gradient() -> None:
    method = make_gan()
    method.discriminator = SumDiscriminator(0.5)
    penalty = method.gradient_penalty(torch.randn(3, 3, 16, 16), torch.randn(3, 8))
    assert penalty.item() == pytest.approx(0.25 * 3 * 16 * 16)
    penalty.backward()  # twice differentiable: d(slope^2 n)/d slope
    assert method.discriminator.slope.grad.item() == pytest.approx(2 * 0.5 * 3 * 16 * 16)


class SquareDiscriminator(SumDiscriminator):
    """D(x, c) = slope * c_0 * |x|^2 / 2: its gradient is slope * c_0 * x, another one for each pair."""

    def forward(self, images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return self.slope / 2 * words[:, 0] * images.flatten(1).square().sum(dim=1)


def test_the_first_part_of_both_sides_is_penalised_each_under_its_own_caption() -> None:
    method = make_gan(penalised_fraction=0.5)
    method.discriminator = SquareDiscriminator(0.5)
    reals, fakes, words = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), make_text(4).concept
    found = method.discriminator_losses(reals, fakes, words, torch.eye(4, dtype=torch.bool))
    slopes = (0.5 * words[:2, 0]) ** 2
    r1, r2 = ((slopes * side[:2].square().sum(dim=(1, 2, 3))).mean().item() for side in (reals, fakes))
    assert found.terms["penalty"].item() == pytest.approx(r1 + r2, rel=1e-5)


def test_both_losses_are_relativistic() -> None:
    """For D = slope * sum(x) they are softplus of the difference of the sums, with opposite signs."""
    method = make_gan(gamma=0.0, matching_weight=0.0, energy_weight=2.0)
    method.discriminator = SumDiscriminator(0.01)
    reals, fakes = torch.full((2, 3, 16, 16), 0.5), torch.full((2, 3, 16, 16), -0.25)
    words, same = make_text(2).concept, torch.eye(2, dtype=torch.bool)
    difference = torch.tensor(0.01 * 0.75 * 3 * 16 * 16)
    told_apart = method.discriminator_losses(reals, fakes, words, same)
    assert told_apart.total.item() == pytest.approx(torch.nn.functional.softplus(-difference).item())
    assert told_apart.terms["margin"].item() == pytest.approx(difference.item())
    others = torch.zeros_like(fakes)
    fooled = method.generator_losses(reals, fakes, others, words)
    assert fooled.terms["fooling"].item() == pytest.approx(torch.nn.functional.softplus(difference).item())
    assert fooled.total.item() == pytest.approx(fooled.terms["fooling"].item() + 2 * (0.75 - 0.25))


def test_the_energy_score_leaves_free_what_a_block_averages_away() -> None:
    method = make_gan(energy_block=4)
    reals = torch.rand(2, 3, 16, 16)
    shuffled = reals.unfold(2, 4, 4).unfold(3, 4, 4).transpose(4, 5)  # each block transposed
    shuffled = shuffled.permute(0, 1, 2, 4, 3, 5).reshape(reals.shape)
    assert not torch.equal(shuffled, reals)
    free = method.generator_losses(reals, shuffled, reals, make_text(2).concept).terms["energy"].item()
    assert free == pytest.approx(0, abs=1e-3)


def test_the_energy_score_is_smallest_at_the_mean_and_spread_of_real_pictures() -> None:
    """Its gradient vanishes there, draws together what is wider and drives apart what is narrower."""
    noise = torch.Generator().manual_seed(0)
    reals, fakes, others = torch.randn(3, 20_000, 3, 2, 2, generator=noise)

    def slopes(spread: float, shift: float) -> tuple[float, float]:
        scale, mean = (torch.tensor(each, requires_grad=True) for each in (spread, shift))
        score = energy_score(scale * fakes + mean, (scale * others + mean).detach(), reals)
        return tuple(each.item() for each in torch.autograd.grad(score, [scale, mean]))

    assert slopes(1.0, 0.0) == pytest.approx((0, 0), abs=0.02)
    assert slopes(0.5, 0.0)[0] < -0.1
    assert slopes(2.0, 0.0)[0] > 0.1
    assert slopes(1.0, 0.5)[1] > 0.1


def test_a_discriminator_that_cannot_tell_starts_at_log_two() -> None:
    method = make_gan()
    torch.nn.init.zeros_(method.discriminator.realness.weight)
    torch.nn.init.zeros_(method.discriminator.caption.weight)
    start = losses(method, "discriminator")
    assert start.terms["adversarial"].item() == pytest.approx(LOG2)
    assert start.terms["matching"].item() == pytest.approx(math.log(6))
    assert start.terms["penalty"].item() == 0
    assert losses(method, "generator").terms["fooling"].item() == pytest.approx(LOG2)


def test_each_objective_trains_its_own_network_alone() -> None:
    for objective, idle in (("discriminator", "generator"), ("generator", "discriminator")):
        method = make_gan()
        losses(method, objective).total.backward()
        assert all(p.grad is None for p in method.parameters_of(idle))
        assert any(p.grad is not None for p in method.parameters_of(objective))
    assert len(method.parameters_of("generator")) + len(method.parameters_of("discriminator")) == len(
        list(method.parameters())
    )


def test_mismatched_captions_are_those_that_say_something_else() -> None:
    pooled = torch.eye(3)[[0, 1, 0]]
    same = same_captions(pooled)
    assert same.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    logits = torch.tensor([[1.0, 0.0, 9.0], [2.0, 3.0, 1.0], [9.0, 0.0, 1.0]])
    by_hand = [math.log1p(math.exp(-1)), math.log1p(math.exp(-1) + math.exp(-2)), math.log1p(math.exp(-1))]
    assert matching_loss(logits, same).item() == pytest.approx(sum(by_hand) / 3)


def test_a_batch_without_mismatches_has_no_matching_loss() -> None:
    logits = torch.randn(4, 4, requires_grad=True)
    loss = matching_loss(logits, torch.ones(4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_the_cost_of_both_objectives_is_counted() -> None:
    """The penalty's double backward pass too, which the counter's hooks must survive."""
    counted = {
        fraction: count_step_flops(
            make_gan(gamma=1.0, penalised_fraction=fraction),
            lambda twin: losses(twin, "discriminator").total,
        )
        for fraction in (0.2, 1.0)
    }
    assert counted[1.0] > 1.5 * counted[0.2]
    assert 0 < count_step_flops(make_gan(), lambda twin: losses(twin, "generator").total) < counted[1.0]


def test_a_batch_of_one_has_losses() -> None:
    for objective in GAN.objectives:
        assert torch.isfinite(losses(make_gan(), objective, count=1).total)


def test_diversity_is_the_spread_of_fakes_as_a_share_of_that_of_reals() -> None:
    reals, fakes, others = torch.randn(3, 4000, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for spread in (1, 0.5, 0.15, 0):
        assert diversity(spread * fakes, spread * others, reals).item() == pytest.approx(spread, abs=0.02)
    assert diversity(0.5 * fakes + 1, 0.5 * others + 1, reals).item() < 0.5  # another mean: rather too low


def test_a_generator_that_ignores_its_noise_is_told_however_much_its_captions_differ() -> None:
    gan = make_gan()
    torch.nn.init.zeros_(gan.generator.latent.weight)
    terms = losses(gan, "generator").terms | losses(gan, "discriminator").terms
    averages = {name: term.item() for name, term in terms.items()}
    assert averages["diversity"] < 0.01
    gan.before_step(0.4)
    assert gan.warnings(averages) == []  # at first it is too far from real pictures to tell
    gan.before_step(0.6)
    (warning,) = gan.warnings(averages)
    assert warning.startswith("mode collapse: pictures of one caption vary 0.00 times as much as real ones")


@pytest.mark.parametrize(
    ("averages", "message"),
    [
        ({"diversity": 0.2, "adversarial": 0.4}, "mode collapse"),
        ({"diversity": 0.9, "adversarial": 1e-4}, "the discriminator knows every fake"),
    ],
)
def test_a_training_that_went_wrong_is_told(averages: dict[str, float], message: str) -> None:
    gan = make_gan()
    gan.before_step(1.0)
    (warning,) = gan.warnings(averages)
    assert message in warning


def test_a_warning_is_given_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = CaptionedImages(["0"], torch.zeros(1, 3, 16, 16, dtype=torch.uint8), ["a cat"], ["en"], [{}])
    gan = make_gan()
    source = MethodBatches(gan, data, TextStateCache(["a cat"], make_text(1)), seed=0)
    optimization = Optimization.from_config(gan.config)
    module = TrainingModule(gan, source, optimization=optimization, total_steps=1, seed=0)
    monkeypatch.setattr(gan, "warnings", lambda averages: ["mode collapse"])
    with pytest.warns(UserWarning, match="step 0: mode collapse"):
        module.check_health()
    module.check_health()  # told already
    assert module.warnings == ["mode collapse"]


def test_a_healthy_training_is_not() -> None:
    gan = make_gan()
    gan.before_step(1.0)
    assert gan.warnings({"diversity": 0.9, "adversarial": 0.4}) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 2.0}, "guidance_scale 2.0 is out of range: this method takes 1 only"),
        ({"num_inference_steps": 8}, "num_inference_steps 8 is out of range: this method takes 1 only"),
    ],
)
def test_settings_that_a_gan_lacks_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        make_gan().eval().sample(make_text(1), generator=torch.Generator(), **arguments)


def test_neutral_settings_are_accepted() -> None:
    method = make_gan().eval()
    plain, neutral = (
        method.sample(make_text(1), generator=torch.Generator().manual_seed(0), **arguments)
        for arguments in ({}, {"guidance_scale": 1.0, "num_inference_steps": 1})
    )
    assert torch.equal(plain, neutral)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(SalonError, match="multiple of 8"):
        GAN(GANConfig(family="gan"), DataShape(20, 8, 8, 8), FROZEN)


def test_a_codec_of_codes_is_refused() -> None:
    class Codes(PixelCodec):
        def latent_shape(self, image_size: int) -> tuple[int, ...]:
            return (16,)

    with pytest.raises(SalonError, match="use codec: pixels"):
        GAN(GANConfig(family="gan", codec="vqvae"), SHAPE, FrozenNets(Codes(), FROZEN.towers))

"""The masked-token prior against cases with a known answer."""

import math
from itertools import pairwise

import pytest
import torch

from colour_codes import WIDTH, colour_frozen, make_text, randomise
from frozen_nets import pixel_frozen
from salon.errors import SalonError
from salon.methods.base import DataShape, families, read_config
from salon.methods.masked_prior import MaskedPrior, MaskedPriorConfig, num_masked, random_mask
from salon.nn.code_prediction import draw, gumbel
from salon.seeding import seeded_generators
from salon.towers.states import Batch, TextStates
from tiny import REPOSITORY

SHAPE = DataShape(image_size=16, text_width=WIDTH, pooled_width=WIDTH, concept_width=WIDTH)
FROZEN = colour_frozen()


def make_method(kind: type[MaskedPrior] = MaskedPrior, **settings: object) -> MaskedPrior:
    torch.manual_seed(0)
    config = MaskedPriorConfig(family="vqvae", width=32, layers=2, head_width=8, **settings)
    return kind(config, SHAPE, FROZEN).eval()


class Watched(MaskedPrior):
    """Remembers the codes of every pass."""

    def hidden(self, codes: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        self.seen = [*getattr(self, "seen", []), codes.clone()]
        return super().hidden(codes, *others)


def test_schedule_is_the_cosine() -> None:
    assert [num_masked(i / 4, 64) for i in (1, 2, 3)] == [59, 45, 24]  # 64 cos(pi/8), cos(pi/4), cos(3 pi/8)
    assert num_masked(0.999, 64) == 1


def test_training_masks_by_the_same_schedule() -> None:
    masked = random_mask(torch.Size((4000, 64)), torch.Generator().manual_seed(0), device=torch.device("cpu"))
    assert masked.sum(dim=1).min() >= 1
    shares = masked.float().mean(dim=1)
    assert shares.mean().item() == pytest.approx(2 / math.pi, abs=0.02)  # mean of cos(pi u / 2)
    assert (shares > math.cos(math.pi / 4)).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert masked.float().mean(dim=0).std() < 0.02  # no cell is favoured


def test_loss_is_the_mean_over_masked_cells() -> None:
    method = make_method()
    randomise(method)
    text, codes = (
        make_text(5),
        torch.randint(8, (5, method.cells), generator=torch.Generator().manual_seed(1)),
    )
    loss = method.losses(
        Batch(torch.zeros(5, 3, 16, 16), text, codes),
        objective="model",
        generator=torch.Generator().manual_seed(2),
    ).total
    generator = torch.Generator().manual_seed(2)
    masked = random_mask(codes.shape, generator, device=codes.device)
    caption = method.caption(method.caption.drop(text.concept, method.config.caption_dropout, generator))
    vectors_in = method.code.vectors_in(method.codebook)
    hidden = method.hidden(codes.masked_fill(masked, method.mask_code), caption, vectors_in)
    log_p = method.logits(hidden, method.code.vectors_out(method.codebook)).log_softmax(dim=2)
    each = -log_p.gather(2, codes[:, :, None])[:, :, 0][masked]
    assert 0 < len(each) < codes.numel()
    assert loss.item() == pytest.approx(each.mean().item(), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_passes_unmask_by_the_schedule_and_keep_what_they_kept(steps: int) -> None:
    method = make_method(Watched)
    randomise(method)
    drawn = method.sample(
        make_text(3), generator=seeded_generators(1, 3), guidance_scale=1, num_inference_steps=steps
    )
    mask = method.mask_code
    masked = [(codes == mask).sum(dim=1).tolist() for codes in method.seen]
    assert masked == [[16] * 3, *([num_masked(i / steps, 16)] * 3 for i in range(1, steps))]
    for before, after in pairwise([*method.seen, method.codec.encode(drawn)]):
        assert torch.equal(before[before != mask], after[before != mask])


def test_one_pass_draws_every_code_from_the_guided_softmax() -> None:
    method = make_method(temperature=0.7)
    randomise(method)
    text = make_text(3)
    drawn = method.sample(text, generator=seeded_generators(1, 3), guidance_scale=3, num_inference_steps=1)
    nothing = torch.full((3, 16), method.mask_code)
    with torch.no_grad():
        vectors = method.code.vectors_in(method.codebook), method.code.vectors_out(method.codebook)
        null_words = method.caption.null_words.expand_as(text.concept)
        captioned, free = (
            method.logits(method.hidden(nothing, method.caption(words), vectors[0]), vectors[1])
            for words in (text.concept, null_words)
        )
    codes, _ = draw((free + 3 * (captioned - free)) / 0.7, seeded_generators(1, 3))
    assert torch.equal(method.codec.encode(drawn), codes)
    assert not torch.allclose(captioned, free, atol=0.1)


@pytest.mark.parametrize(("start", "rows"), [(0.0, [6, 6, 6, 6]), (0.5, [3, 3, 6, 6]), (0.9, [3, 3, 3, 6])])
def test_only_the_later_passes_are_guided(start: float, rows: list[int]) -> None:
    method = make_method(Watched, guidance_start=start)
    randomise(method)
    method.sample(make_text(3), generator=seeded_generators(1, 3), guidance_scale=2, num_inference_steps=4)
    assert [len(codes) for codes in method.seen] == rows


def test_the_last_block_works_out_what_is_wanted_alone() -> None:
    method = make_method()
    randomise(method)
    codes = torch.randint(9, (2, 16), generator=torch.Generator().manual_seed(0))
    caption = method.caption(make_text(2).concept)
    wanted = torch.tensor([[3, 0, 15], [7, 8, 2]])
    with torch.no_grad():
        vectors_in = method.code.vectors_in(method.codebook)
        whole = method.hidden(codes, caption, vectors_in)
        some = method.hidden(codes, caption, vectors_in, wanted)
    for row, cells, found in zip(whole, wanted, some, strict=True):
        assert torch.allclose(found, row[cells], atol=1e-5)


def draw_plainly(
    method: MaskedPrior, text: TextStates, generators: list[torch.Generator], *, scale: float, steps: int
) -> torch.Tensor:
    """Codes of each picture by itself: all cells in every pass, with and without its caption."""
    config, vectors_in, vectors_out = (
        method.config,
        method.code.vectors_in(method.codebook),
        method.code.vectors_out(method.codebook),
    )
    pictures = []
    for row, generator in enumerate(generators):
        words = text.concept[row : row + 1]
        codes = torch.full((1, method.cells), method.mask_code)
        for i in range(1, steps + 1):
            logits = [
                method.logits(method.hidden(codes, method.caption(given), vectors_in), vectors_out)[0]
                for given in (words, method.caption.null_words[None])
            ]  # (n, k) with the caption, and without
            strength = scale if i > config.guidance_start * steps else 1
            guided = (logits[1] + strength * (logits[0] - logits[1])) / config.temperature
            cells = [cell for cell in range(method.cells) if codes[0, cell] == method.mask_code]
            drawn, certainty = draw(guided[None, cells], [generator])
            if i < steps:
                noise = gumbel((len(cells),), [generator], device=certainty.device)
                certainty = certainty + config.choice_temperature * (1 - i / steps) * noise
            surest_last = certainty[0].argsort().tolist()
            again = num_masked(i / steps, method.cells) if i < steps else 0
            for place in surest_last[again:]:
                codes[0, cells[place]] = drawn[0, place]
        pictures.append(codes)
    return torch.cat(pictures)


@pytest.mark.parametrize("steps", [1, 3, 8, 16])
@pytest.mark.parametrize("scale", [1, 2.5])
@pytest.mark.parametrize("tau", [0, 1])
def test_codes_are_those_of_a_plain_sampler_of_one_picture_after_the_other(
    steps: int, scale: float, tau: float
) -> None:
    method = make_method(choice_temperature=tau)
    randomise(method)
    text = make_text(4)
    options = {"guidance_scale": scale, "num_inference_steps": steps}
    drawn = method.sample(text, generator=seeded_generators(1, 4), **options)
    with torch.no_grad():
        expected = draw_plainly(method, text, seeded_generators(1, 4), scale=scale, steps=steps)
    assert torch.equal(method.codec.encode(drawn), expected)


def test_codes_kept_at_random_are_drawn_from_the_softmax() -> None:
    """A network that knows only how common each code is; certainty, if it chose, would favour common ones."""
    method = make_method(choice_temperature=1e6, temperature=1.0)
    bias = torch.linspace(-1, 1, 8)
    method.code.bias_out.data.copy_(bias)
    drawn = method.sample(make_text(256), generator=seeded_generators(1, 256), num_inference_steps=4)
    shares = torch.bincount(method.codec.encode(drawn).flatten(), minlength=8) / (256 * 16)
    assert torch.allclose(shares, bias.softmax(0), atol=0.03)


def test_the_first_loss_is_that_of_an_even_guess() -> None:
    loss = (
        make_method()
        .losses(
            Batch(torch.zeros(4, 3, 16, 16), make_text(4), torch.randint(8, (4, 16))),
            objective="model",
            generator=torch.Generator().manual_seed(0),
        )
        .total
    )
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale 0.5 is out of range: 1 to 20"),
        ({"num_inference_steps": 0}, "num_inference_steps 0 is out of range: 1 to 16"),
        ({"num_inference_steps": 17}, "num_inference_steps 17 is out of range: 1 to 16"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        make_method().sample(make_text(1), generator=torch.Generator(), **arguments)


def test_a_codec_without_codes_is_refused() -> None:
    with pytest.raises(SalonError, match="masked_prior predicts codes, and this codec has none"):
        MaskedPrior(MaskedPriorConfig(family="vqvae"), SHAPE, pixel_frozen(WIDTH))


def test_its_name_of_the_release_before_is_read_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    method, _ = read_config("vqvae", {"family": "vqvae", "codec": "vqvae"})
    assert method is MaskedPrior
    told = "methods.vqvae.family vqvae is called masked_prior now; both are read for one release"
    assert told in capsys.readouterr().err
    assert "vqvae" not in families()
    assert (REPOSITORY / "src/salon/methods/vqvae.py").is_file(), "dvc.yaml names the file of a family"

"""Captions as sums of words, turned to what pictures show: data whose answer is known."""

import pytest
import torch

from salon.towers.cca import FEWEST, CanonicalProjection, canonical_directions

PICTURES = 4000


def factors(*, noise: float, unrelated: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten hidden factors; `x` and `y` show them linearly, and each has noise of its own."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(PICTURES, 10, generator=generator)
    x = torch.cat([hidden, 5 * torch.randn(PICTURES, unrelated, generator=generator)], dim=1)
    x = x @ torch.randn(x.shape[1], x.shape[1], generator=generator)
    y = hidden @ torch.randn(10, 24, generator=generator)
    y = y + noise * torch.randn(y.shape, generator=generator)
    return x - x.mean(dim=0), y - y.mean(dim=0), hidden


def test_directions_are_what_both_sides_show() -> None:
    """The large variance that only `x` has is left out, and every factor can be read from what remains."""
    x, y, hidden = factors(noise=0.1)
    directions, counterparts = canonical_directions(x, y)
    found = x @ directions
    assert found.shape[1] == 10
    rest = hidden - found @ torch.linalg.lstsq(found, hidden).solution
    assert rest.var() < 0.02 * hidden.var()
    assert found.std(dim=0).max() < 1.01  # unit variance times rho
    assert found.std(dim=0).median() > 0.98
    assert torch.allclose((y @ counterparts).std(dim=0), torch.ones(10), atol=0.02)
    guess = torch.linalg.lstsq(found, y @ counterparts).solution
    assert (guess - guess.diag().diag()).abs().max() < 0.01  # each is guessed from its own counterpart,
    assert guess.diag().median().item() == pytest.approx(1, abs=0.01)  # as it stands


def test_unrelated_sides_leave_the_fewest_directions_and_little_in_them() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PICTURES, 30, generator=generator)
    y = torch.randn(PICTURES, 40, generator=generator)
    found = x @ canonical_directions(x - x.mean(dim=0), y - y.mean(dim=0))[0]
    assert found.shape[1] == FEWEST
    assert found.std(dim=0).max() < (30 / PICTURES) ** 0.5 + (40 / PICTURES) ** 0.5


@pytest.fixture(scope="module")
def words() -> CanonicalProjection:
    """Token 0 pads, 1 to 4 are concepts, 5 to 7 styles, 8 and 9 say nothing about the picture."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(10, 12, generator=generator)
    concepts = torch.randint(1, 5, (500,), generator=generator)
    styles = torch.randint(5, 8, (500,), generator=generator)
    fillers = torch.randint(8, 10, (500,), generator=generator)
    seen = ~((concepts == 1) & (styles == 5))  # one combination is never seen
    ids = torch.stack([concepts, styles, fillers], dim=1)[seen]
    images = torch.nn.functional.one_hot(ids[:, :2], 10).float().sum(dim=1)
    return CanonicalProjection.fit(table, ids, torch.ones_like(ids), images=images)


def test_an_unseen_combination_lies_where_its_parts_put_it(words: CanonicalProjection) -> None:
    ids = torch.tensor([[1, 5, 8], [1, 6, 8], [2, 5, 8], [2, 6, 8]])
    unseen, a, b, ab = words(ids, torch.ones_like(ids))
    assert torch.allclose(unseen, a + b - ab, atol=1e-4)


def test_a_picture_shows_its_words(words: CanonicalProjection) -> None:
    ids = torch.tensor([[2, 6, 8], [3, 7, 9], [4, 5, 8]])
    embeddings = torch.nn.functional.one_hot(ids[:, :2], 10).float().sum(dim=1)
    shown = words.of_pictures()(embeddings)
    said = words(ids, torch.ones_like(ids))
    assert torch.cdist(shown, said).argmin(dim=1).tolist() == [0, 1, 2]


def test_phrasing_hardly_counts(words: CanonicalProjection) -> None:
    ids = torch.tensor([[1, 6, 8], [1, 6, 9], [2, 6, 8]])
    one, rephrased, other = words(ids, torch.ones_like(ids))
    assert (one - rephrased).norm() < 0.25 * (one - other).norm()


def test_padding_does_not_count(words: CanonicalProjection) -> None:
    short = words(torch.tensor([[1, 6]]), torch.tensor([[1, 1]]))
    padded = words(torch.tensor([[1, 6, 0, 0]]), torch.tensor([[1, 1, 0, 0]]))
    assert torch.allclose(short, padded)


def test_a_stranger_caption_is_hardly_longer_than_the_longest_seen(words: CanonicalProjection) -> None:
    strange = words(torch.tensor([[0, 0]]), torch.tensor([[1, 1]]))
    assert strange.norm() <= words.longest * 1.001


def test_saved_and_loaded_say_the_same(words: CanonicalProjection, tmp_path) -> None:
    words.save(tmp_path / "words.safetensors")
    loaded = CanonicalProjection.load(tmp_path / "words.safetensors", table=words.table)
    ids = torch.tensor([[3, 7, 9]])
    assert torch.equal(loaded(ids, torch.ones_like(ids)), words(ids, torch.ones_like(ids)))

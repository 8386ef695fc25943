"""A picture finds its own caption among others: by hand, by chance, and after a short training."""

import numpy as np
import pytest
import torch
from test_sentinels import make_split

from quick_training import learn_quickly
from salon.errors import SalonError
from salon.judging.retriever import (
    BUCKETS,
    Retriever,
    describe,
    draw_candidates,
    hash_words,
    retrieval_accuracy,
)
from salon.judging.training_pool import DescribedBatches

SEED = 90210


@pytest.fixture(scope="module", params=[True, False], ids=["attributes", "captions alone"])
def trained(request) -> Retriever:
    usual, novel = (make_split(n, seed=i, attributes=request.param) for i, n in enumerate((400, 50)))
    source = DescribedBatches(usual, novel, batch_size=32, seed=SEED)
    torch.manual_seed(SEED)
    return learn_quickly(Retriever(width=8), source, steps=150, lr=5e-3, seed=SEED).task


def test_real_pictures_find_their_captions_and_shuffled_ones_do_not(trained: Retriever) -> None:
    data = make_split(200, seed=2)
    assert retrieval_accuracy(trained, data, seed=0) > 0.9
    candidates = draw_candidates(describe(data), seed=0)
    turned = trained.choose(data.images.roll(1, dims=0), data.captions, candidates)
    alike = np.mean(
        [a == b for a, b in zip(data.captions, data.captions[-1:] + data.captions[:-1], strict=True)]
    )
    right = np.mean([data.captions[row] == own for row, own in zip(turned, data.captions, strict=True)])
    assert right == pytest.approx(alike, abs=0.1)


def test_an_untrained_judge_of_noise_is_right_by_chance() -> None:
    count = 2000
    noise = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8)
    captions = [f"thing {i % 40} number {i}" for i in range(count)]
    candidates = draw_candidates(captions, seed=0)
    assert candidates.shape == (count, 100)
    torch.manual_seed(0)
    rows = Retriever(width=8).choose(noise, captions, candidates)
    assert np.mean([row == i for i, row in enumerate(rows)]) == pytest.approx(1 / 100, abs=0.01)


def test_candidates_are_ones_own_and_captions_of_other_things() -> None:
    descriptions = ["owl", "owl", "bus", "cake", "bus"]
    candidates = draw_candidates(descriptions, seed=0)
    assert candidates.shape == (5, 4)  # an owl or a bus can be confused with three others
    for own, (first, *others) in enumerate(candidates.tolist()):
        assert first == own
        assert len(set(others)) == 3
        assert all(descriptions[row] != descriptions[own] for row in others)
    assert torch.equal(candidates, draw_candidates(descriptions, seed=0))
    assert draw_candidates(range(300), seed=0).shape == (300, 100)
    with pytest.raises(ValueError, match="describe the same"):
        draw_candidates(["owl", "owl"], seed=0)


def test_two_ways_to_say_the_same_are_one_description() -> None:
    with_attributes, bare = make_split(50, seed=3), make_split(50, seed=3, attributes=False)
    assert len(set(describe(with_attributes))) == len(set(describe(bare))) == len(set(bare.captions))
    assert describe(bare)[0] == bare.captions[0]


def test_words_and_their_order_are_read_and_nothing_is_unknown() -> None:
    assert hash_words("A cat") == hash_words("a, CAT!")
    assert len(hash_words("a cat sits")) == 5
    assert sorted(hash_words("red on blue")) != sorted(hash_words("blue on red"))
    assert hash_words("...") == hash_words("")
    assert all(0 <= number < BUCKETS for number in hash_words("сова на синем фоне 🦉"))


def test_saved_and_loaded_it_judges_alike(trained: Retriever, tmp_path) -> None:
    trained.save_pretrained(tmp_path / "retriever")
    again = Retriever.from_pretrained(tmp_path / "retriever")
    data = make_split(50, seed=4)
    candidates = draw_candidates(describe(data), seed=1)
    assert again.choose(data.images, data.captions, candidates) == trained.choose(
        data.images, data.captions, candidates
    )
    with pytest.raises(SalonError, match="run the scorer stage"):
        Retriever.from_pretrained(tmp_path)


def test_a_picture_of_any_size_can_be_judged() -> None:
    assert Retriever(width=8).encode_images(torch.zeros(2, 3, 64, 64)).shape == (2, 32)

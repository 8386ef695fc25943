"""Held-out combinations: their number, their spread, and what counts as novel."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salon.data.splits import attribute_pairs, hold_out_pairs, novelty_kind, seen_pairs


@given(
    first=st.integers(2, 24),
    second=st.integers(2, 10),
    count=st.integers(0, 80),
    seed=st.integers(0, 2**32 - 1),
)
def test_held_out_pairs_leave_every_value_well_known(first, second, count, seed):
    concepts = [f"c{i}" for i in range(first)]
    styles = [f"s{i}" for i in range(second)]
    try:
        held = hold_out_pairs(concepts, styles, count=count, rng=np.random.default_rng(seed))
    except ValueError:  # right only where the pairs really run short
        assert count > min(first * (second - 2), second * (first - 2)) // 2
        return
    assert len(held) == count
    everything = set(product(concepts, styles))
    assert held <= everything
    shown = everything - held
    if count:
        assert min(Counter(c for c, _ in shown).get(c, 0) for c in concepts) >= 2
        assert min(Counter(s for _, s in shown).get(s, 0) for s in styles) >= 2
    assert held == hold_out_pairs(concepts, styles, count=count, rng=np.random.default_rng(seed))


def test_load_is_spread_evenly_in_the_default_shape():
    concepts, styles = [f"c{i}" for i in range(20)], [f"s{i}" for i in range(4)]
    for seed in range(20):
        held = hold_out_pairs(concepts, styles, count=10, rng=np.random.default_rng(seed))
        assert max(Counter(c for c, _ in held).values()) == 1
        assert max(Counter(s for _, s in held).values()) <= 5


def test_different_seeds_hold_out_different_pairs():
    names = [f"v{i}" for i in range(12)]
    drawn = {
        frozenset(hold_out_pairs(names, names, count=6, rng=np.random.default_rng(seed))) for seed in range(8)
    }
    assert len(drawn) > 1


def test_impossible_request_is_refused_in_words():
    with pytest.raises(ValueError, match=r"cannot hold out 3 of 2 x 2 combinations"):
        hold_out_pairs(["a", "b"], ["c", "d"], count=3, rng=np.random.default_rng(0))


OWL_BLUE = {"concept": "owl", "style": "noto", "background": "blue"}
BUS_PINK = {"concept": "bus", "style": "twemoji", "background": "pink"}
BUS_NOTO = {"concept": "bus", "style": "noto", "background": "pink"}


def test_pairs_do_not_depend_on_the_order_of_attributes():
    assert attribute_pairs(OWL_BLUE) == attribute_pairs(dict(reversed(OWL_BLUE.items())))
    assert len(attribute_pairs(OWL_BLUE)) == 3


@pytest.mark.parametrize(
    ("training", "kind"),
    [
        ([OWL_BLUE], None),
        ([OWL_BLUE | {"background": "pink"}, BUS_NOTO | {"background": "blue"}], "concept_x_background"),
        ([OWL_BLUE | {"style": "twemoji"}, BUS_NOTO | {"background": "blue"}], "concept_x_style"),
        ([OWL_BLUE | {"style": "twemoji"}, OWL_BLUE | {"background": "pink"}], "style_x_background"),
        ([BUS_PINK], "concept_x_background+concept_x_style+style_x_background"),
    ],
)
def test_novelty_is_named_after_the_unseen_pair(training, kind):
    wanted = OWL_BLUE
    if kind == "concept_x_background":
        training = [*training, {"concept": "owl", "style": "noto"}]
    assert novelty_kind(wanted, seen_pairs(training)) == kind


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=8))
def test_no_training_row_is_novel(rows):
    pairs = seen_pairs(rows)
    assert all(novelty_kind(row, pairs) is None for row in rows)

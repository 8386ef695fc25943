"""What is tried: the same of every method, all over its range, and the same again for the same seed."""

from typing import Any

import pytest

from salon.evaluation.search_space import PRIORS, Choice, LogUniform, draw_trials

OWN = {"guidance_scale": 2.0, "num_inference_steps": 7}


def draw(own: dict[str, float] | None = None, **changes: Any) -> list[dict[str, float]]:
    return draw_trials(own or OWN, **{"trials": 9, "seed": 1, "most_steps": 200, **changes})


def test_the_first_trial_is_the_method_s_own_and_the_others_follow_from_the_seed() -> None:
    assert draw()[0] == OWN
    assert draw() == draw()
    assert draw() != draw(seed=2)
    assert len(draw()) == 9
    assert draw(trials=1) == [OWN]


def test_every_part_of_a_range_is_tried_once() -> None:
    scales = sorted(trial["guidance_scale"] for trial in draw()[1:])
    edges = [5 ** (part / 8) for part in range(9)]
    assert all(
        low - 0.01 <= scale <= high + 0.01
        for low, scale, high in zip(edges[:-1], scales, edges[1:], strict=True)
    )


def test_two_methods_try_the_same_guidance() -> None:
    tokens = draw({"temperature": 0.6, "guidance_scale": 1.5})
    flows = draw()
    assert [t["guidance_scale"] for t in tokens[1:]] == [f["guidance_scale"] for f in flows[1:]]


def test_what_a_method_cannot_do_is_not_tried_and_nothing_is_tried_twice() -> None:
    assert max(trial["num_inference_steps"] for trial in draw(most_steps=8)) == 8
    only = draw({"candidates": 1})
    assert sorted(trial["candidates"] for trial in only) == [1, 2, 4]


def test_priors_reach_from_end_to_end() -> None:
    assert [LogUniform(1, 4).at(share) for share in (0, 0.5, 1)] == [1, 2, 4]
    assert LogUniform(3, 16, whole=True).at(0.5) == 7
    assert [Choice((1, 2, 4)).at(share) for share in (0.0, 0.34, 1.0)] == [1, 2, 4]
    assert all(prior.at(0.0) < prior.at(1.0) for prior in PRIORS.values())


@pytest.mark.parametrize("name", PRIORS)
def test_a_draw_is_a_plain_number_that_json_keeps(name: str) -> None:
    assert type(PRIORS[name].at(0.3)) in (int, float)

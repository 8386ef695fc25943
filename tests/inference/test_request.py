"""Requests from rows: what is read, and which sentence answers what cannot be met."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salon.inference.request import MAX_SEED, RequestError, read_requests


def requests(*rows: dict, **params: object):
    return read_requests(pd.DataFrame(list(rows)), params)


def test_row_wins_over_params_and_gaps_take_them():
    first, second = requests({"prompt": "a", "seed": 3}, {"prompt": "b"}, seed=9, guidance_scale=2.5)
    assert (first.seed, second.seed) == (3, 9)
    assert first.guidance_scale == second.guidance_scale == 2.5
    assert first.num_inference_steps is None


def test_missing_seed_is_drawn_anew():
    seeds = {requests({"prompt": "a"})[0].seed for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_num_images_takes_consecutive_seeds():
    found = requests({"prompt": "a", "seed": 5, "num_images": 3}, {"prompt": "b", "seed": 1})
    assert [(request.prompt, request.seed) for request in found] == [("a", 5), ("a", 6), ("a", 7), ("b", 1)]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is missing"),
        ({"prompt": float("nan")}, "the prompt is missing"),
        ({"prompt": 5}, "must be text"),
        ({"prompt": ["a"]}, "must be text"),
        ({"prompt": "a" * 1001}, "1001 characters, at most 1000"),
        ({"prompt": "a\0"}, "not text"),
        ({"prompt": "a", "seed": -1}, "seed must be a number from 0"),
        ({"prompt": "a", "seed": 1.5}, "seed must be a whole number"),
        ({"prompt": "a", "seed": "7"}, "seed must be a number"),
        ({"prompt": "a", "seed": True}, "seed must be a number"),
        ({"prompt": "a", "seed": float("inf")}, "seed must be a number"),
        ({"prompt": "a", "seed": 2**40}, "seed must be a number"),
        ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": -4}, "num_inference_steps"),
        ({"prompt": "a", "num_inference_steps": 10**9}, "num_inference_steps"),
        ({"prompt": "a", "guidance_scale": -1}, "guidance_scale"),
        ({"prompt": "a", "guidance_scale": [2]}, "guidance_scale"),
        ({"prompt": "a", "num_images": 0}, "num_images"),
        ({"prompt": "a", "num_images": 65}, "num_images"),
    ],
)
def test_bad_row_is_named_with_one_sentence(row: dict, sentence: str):
    with pytest.raises(RequestError, match=sentence) as error:
        requests({"prompt": "fine"}, row)
    assert error.value.sentence.startswith("row 2: ")
    assert "\n" not in error.value.sentence
    assert error.value.get_http_status_code() == 400
    error.value.message = "Failed to predict data '…the whole payload…'"  # what the scoring server does
    assert json.loads(error.value.serialize_as_json())["message"] == error.value.sentence


def test_half_a_character_is_refused():
    # an object column: pandas itself refuses to make text of it
    with pytest.raises(RequestError, match="not text"):
        read_requests(pd.DataFrame({"prompt": ["a\ud800"]}, dtype=object))


def test_params_are_checked_like_rows():
    with pytest.raises(RequestError, match="guidance_scale"):
        requests({"prompt": "a"}, guidance_scale=float("nan"))


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pd.DataFrame({"prompt": []}), "no row"),
        (pd.DataFrame({"text": ["a"]}), "every row needs a prompt"),
        (pd.DataFrame({"prompt": ["a"] * 65}), "65 rows"),
        (pd.DataFrame({"prompt": ["a"] * 3, "num_images": [30] * 3}), "more than 64 pictures"),
    ],
)
def test_bad_request_as_a_whole(frame: pd.DataFrame, sentence: str):
    with pytest.raises(RequestError, match=sentence):
        read_requests(frame)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=2),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt": ANYTHING},
            optional={"seed": ANYTHING, "num_inference_steps": ANYTHING, "num_images": ANYTHING},
        ),
        min_size=1,
        max_size=4,
    )
)
def test_anything_is_read_or_refused(rows: list[dict]):
    try:
        found = requests(*rows)
    except RequestError:
        return
    assert 1 <= len(found) <= 64
    for request in found:
        assert request.prompt.strip()
        assert 0 <= request.seed <= MAX_SEED + 64

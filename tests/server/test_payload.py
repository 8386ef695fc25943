"""Bodies: every form is read, and everything else refused with one sentence that repeats nothing of it."""

import json
from typing import Any

import pytest

from salon.inference.request import RequestError, read_requests
from salon.server.payload import read_payload

SECRET = "zanzibar"


def read(body: bytes) -> None:
    payload = read_payload(body)
    read_requests(payload.rows, payload.params)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["prompt", "seed"], "data": [["an owl", 7]]}},
        {"dataframe_split": {"index": [0], "columns": ["seed", "prompt"], "data": [[7, "an owl"]]}},
        {"dataframe_records": [{"prompt": "an owl", "seed": 7}]},
        {"inputs": [{"prompt": "an owl", "seed": 7}]},
        {"inputs": {"prompt": ["an owl"], "seed": [7]}},
        {"inputs": {"prompt": "an owl", "seed": 7}},
        {"instances": [{"prompt": "an owl", "seed": 7}]},
        {"dataframe_records": [{"prompt": "an owl"}], "params": {"seed": 7}},
        {"dataframe_records": [{"prompt": "an owl", "seed": 7}], "params": None},
        {"prompt": "an owl", "seed": 7},
    ],
)
def test_every_form_says_the_same(body: dict[str, Any]):
    payload = read_payload(json.dumps(body).encode())
    (request,) = read_requests(payload.rows, payload.params, methods=["diffusion", "gan"])
    assert (request.prompt, request.seed, request.method) == ("an owl", 7, "diffusion")
    assert payload.bare == ("prompt" in body)


def test_method_is_chosen_by_row_or_params_and_all_asks_everybody():
    methods = ["diffusion", "gan"]

    def who(*rows: dict[str, Any], **params: Any) -> list[tuple[str, int]]:
        return [(r.method, r.seed) for r in read_requests(list(rows), params, methods=methods)]

    assert who({"prompt": "a", "seed": 1, "method": "gan"}) == [("gan", 1)]
    assert who({"prompt": "a", "seed": 1}, method="gan") == [("gan", 1)]
    everybody = [("diffusion", 1), ("diffusion", 2), ("gan", 1), ("gan", 2)]
    assert who({"prompt": "a", "seed": 1, "method": "all", "num_images": 2}) == everybody
    for bad in ("GAN", "", 5, ["gan"], True):
        with pytest.raises(RequestError, match="row 1: method must be one of diffusion, gan, all"):
            who({"prompt": "a", "method": bad})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00" + SECRET.encode(), "not valid JSON"),
        (b"{" + SECRET.encode(), "not valid JSON"),
        (b'{"prompt": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "not valid JSON"),
        (b'{"inputs": ' + b"[" * 50 + b"]" * 50 + b"}", "must be a list of rows"),
        (b'{"inputs": [{"prompt": "a", "seed": ' + b"[" * 50 + b"]" * 50 + b"}]}", "seed must be a number"),
        (b'{"inputs": [{"prompt": "half a character: \\ud83d"}]}', "characters that are not text"),
        (b"[]", "must be a JSON object"),
        (b'"zanzibar"', "must be a JSON object"),
        (b"NaN", "not valid JSON"),
        (b"{}", "exactly one of"),
        (b'{"zanzibar": 1}', "exactly one of"),
        (b'{"inputs": [], "instances": []}', "exactly one of"),
        (b'{"inputs": [], "zanzibar": []}', "exactly one of"),
        (b'{"inputs": "zanzibar"}', "must be a list of rows"),
        (b'{"inputs": ["zanzibar"]}', "must be a list of rows"),
        (b'{"inputs": {"prompt": ["a", "b"], "seed": [1]}}', "one length"),
        (b'{"inputs": {"prompt": ["a"], "seed": 1}}', "one length"),
        (b'{"inputs": [{"prompt": "a", "zanzibar": 1}]}', "1 unknown keys"),
        (b'{"inputs": [{"prompt": "a"}], "params": {"zanzibar": 1}}', "1 unknown keys"),
        (b'{"inputs": [{"prompt": "a"}], "params": {"seed": -1}}', "params: seed must be a number"),
        (b'{"inputs": [{"prompt": "a"}], "params": [1]}', "params must be"),
        (b'{"dataframe_records": {"prompt": "a"}}', "must be a list of rows"),
        (b'{"dataframe_split": []}', "columns and data"),
        (b'{"dataframe_split": {"columns": ["prompt"], "zanzibar": 1}}', "columns and data"),
        (b'{"dataframe_split": {"columns": [1], "data": []}}', "list of names"),
        (b'{"dataframe_split": {"columns": ["prompt", "prompt"], "data": []}}', "stands twice"),
        (b'{"dataframe_split": {"columns": ["prompt"], "data": ["a"]}}', "list of rows"),
        (b'{"dataframe_split": {"columns": ["prompt"], "data": [["a", 1]]}}', "1 values"),
    ],
)
def test_anything_else_gets_one_sentence(body: bytes, sentence: str):
    with pytest.raises(RequestError, match=sentence) as error:
        read(body)
    assert SECRET not in error.value.sentence
    assert "\n" not in error.value.sentence
    assert len(error.value.sentence) < 150


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no row"),
        ([{"prompt": "a"}] * 10_000, "10000 rows"),
        ([{"prompt": "a", "num_images": 33, "method": "all"}], "more than 64"),
        ([{"seed": 1}], "row 1: the prompt is missing"),
        ([{"prompt": {"a": 1}}], "must be text"),
    ],
)
def test_rows_are_limited(rows: list[dict[str, Any]], sentence: str):
    with pytest.raises(RequestError, match=sentence):
        read_requests(rows, {}, methods=["diffusion", "gan"])

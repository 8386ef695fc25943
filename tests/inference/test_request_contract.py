"""What the published contract accepts, the checks accept, and the other way round."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from salon.inference.contract import SIGNATURE, contract
from salon.inference.request import Options, RequestError, Row, read_requests
from salon.methods.diffusion import DiffusionConfig
from salon.nn.guidance import MAX_GUIDANCE_SCALE, MAX_STEPS
from salon.server.payload import read_payload

METHODS = ["diffusion", "gan"]
CONTRACT = jsonschema.Draft202012Validator(contract())

LIMITS = {
    "seed": (0, 2**32 - 1),
    "num_inference_steps": (1, 200),
    "guidance_scale": (1, 20),
    "num_images": (1, 64),
}
NEAR = [
    value for low, high in LIMITS.values() for limit in (low, high) for value in (limit - 1, limit, limit + 1)
]
VALUES = st.one_of(
    st.sampled_from(NEAR),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.just([1]),
)
PROMPTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.sampled_from(["a" * 1000, "a" * 1001, "\0", "a\0", "\x1c", "\x85", " \n", "сова"]),
    VALUES,
)
OPTIONS = {name: VALUES for name in LIMITS} | {
    "method": st.one_of(st.sampled_from([*METHODS, "all"]), VALUES)
}
ROWS = st.fixed_dictionaries({}, optional={"prompt": PROMPTS, **OPTIONS, "nonesuch": VALUES})


def refusal(body: Any) -> str | None:
    try:
        payload = read_payload(json.dumps(body).encode())
        read_requests(payload.rows, payload.params, methods=METHODS)
    except RequestError as error:
        return error.sentence
    return None


def forms(row: dict[str, Any]) -> list[Any]:
    columns = {name: [value] for name, value in row.items()}
    return [
        {"dataframe_records": [row]},
        {"inputs": [row]},
        {"instances": [row]},
        {"inputs": columns},
        *([{"inputs": row}, row] if not any(isinstance(value, list) for value in row.values()) else []),
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_the_schema_and_the_checks_agree_in_every_form(row: dict[str, Any]) -> None:
    for body in forms(row):
        sentence = refusal(body)
        # what a schema cannot say: who serves, and how many pictures there are in all
        if sentence and ("method must be one of" in sentence or "more than 64" in sentence):
            continue
        assert CONTRACT.is_valid(body) == (sentence is None), (body, sentence)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={**OPTIONS, "nonesuch": VALUES}))
def test_params_agree(params: dict[str, Any]) -> None:
    body = {"inputs": [{"prompt": "an owl"}], "params": params}
    sentence = refusal(body)
    if not (sentence and ("method must be one of" in sentence or "more than 64" in sentence)):
        assert CONTRACT.is_valid(body) == (sentence is None), sentence


@pytest.mark.parametrize("name", LIMITS)
def test_both_have_the_same_limits_to_the_last_step(name: str) -> None:
    low, high = LIMITS[name]
    for value, fits in ((low, True), (high, True), (low - 1, False), (high + 1, False), (high + 0.5, False)):
        bodies = [{"prompt": "a", name: value}, {"inputs": [{"prompt": "a"}], "params": {name: value}}]
        bodies.append({"inputs": {"prompt": ["a"], name: [value]}})
        for body in bodies:
            assert CONTRACT.is_valid(body) == (refusal(body) is None) == fits, body


@pytest.mark.parametrize("scale", [20.1, 50, 100])
def test_guidance_that_no_method_has_is_refused_by_both_with_one_sentence(scale: float) -> None:
    sentence = "guidance_scale must be a number from 1 to 20"
    assert not CONTRACT.is_valid({"prompt": "a", "guidance_scale": scale})
    assert refusal({"prompt": "a", "guidance_scale": scale}) == f"row 1: {sentence}"
    assert (
        refusal({"inputs": [{"prompt": "a"}], "params": {"guidance_scale": scale}}) == f"params: {sentence}"
    )


def test_limits_are_those_of_the_methods() -> None:
    assert LIMITS["guidance_scale"][1] == MAX_GUIDANCE_SCALE
    assert LIMITS["num_inference_steps"][1] == MAX_STEPS
    for model in (Options, DiffusionConfig):
        model(num_inference_steps=MAX_STEPS, guidance_scale=MAX_GUIDANCE_SCALE)
        for beyond in ({"num_inference_steps": MAX_STEPS + 1}, {"guidance_scale": MAX_GUIDANCE_SCALE + 1}):
            with pytest.raises(ValidationError):
                model(**beyond)


def test_what_mlflow_is_told_are_the_same_names() -> None:
    assert SIGNATURE.inputs.input_names() == list(Row.model_fields)
    assert [param.name for param in SIGNATURE.params.params] == list(Options.model_fields)
    assert [param.dtype.name for param in SIGNATURE.params.params] == [
        "string", "long", "long", "double", "long",
    ]  # fmt: skip

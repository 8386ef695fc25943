"""What may be asked of a served model: each limit once.

The checks are these models'; JSON Schema and MLflow's signature derive from them
(`salon.inference.contract`).
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from salon.nn.guidance import MAX_GUIDANCE_SCALE, MAX_STEPS, MIN_GUIDANCE_SCALE

MAX_PROMPT_LENGTH = 1000  # characters
MAX_PICTURES = 64  # per request: a request must end
MAX_SEED = 2**32 - 1  # exact even where pandas makes floats of a column with gaps

ALL_METHODS = "all"
NO_TEXT = "the prompt holds characters that are not text"

Rows = pd.DataFrame | Sequence[Mapping[str, Any]]
T = TypeVar("T")


class RequestError(MlflowException):
    """A request that cannot be met; becomes a 400 with one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)
        self.sentence = sentence

    def serialize_as_json(self) -> str:
        # the scoring server puts the whole payload in front of `message`: whoever sent it has it
        return json.dumps({"error_code": self.error_code, "message": self.sentence})


def _whole(value: Any) -> Any:
    """JSON and pandas write whole numbers as floats, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_LENGTH, pattern=r"^[^\x00]*[^\s\x00\x1c-\x1f][^\x00]*$")]


class Wire(BaseModel):
    """What stands in JSON: no other keys, and nothing taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class _Prompt(Wire):
    prompt: Prompt
    """What to draw, in English or Russian."""


class Options(Wire):
    """What a row may say beside its prompt; params say it for all rows, and the row wins."""

    method: str | None = None
    """Who draws; `all` is one picture from each."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), Whole] | None = None
    """Drawn when absent."""
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS), Whole] | None = None
    """The model's own when absent."""
    guidance_scale: Annotated[float, Field(ge=MIN_GUIDANCE_SCALE, le=MAX_GUIDANCE_SCALE)] | None = None
    """The model's own when absent."""
    num_images: Annotated[int, Field(ge=1, le=MAX_PICTURES), Whole] | None = None
    """With consecutive seeds."""


class Row(Options, _Prompt):
    """One prompt and how to draw it."""


OPTIONS, ROWS = TypeAdapter(Options), TypeAdapter(list[Row])


@dataclass(frozen=True)
class PictureRequest:
    """One picture to draw; None takes the model's own value."""

    prompt: str
    seed: int
    num_inference_steps: int | None
    guidance_scale: float | None
    method: str = ""


def read_requests(
    rows: Rows, params: Mapping[str, Any] | None = None, *, methods: Sequence[str] = ("",)
) -> list[PictureRequest]:
    """One request per picture, in the order of the rows; a row's pictures have consecutive seeds.

    Any of `methods` may be asked; the first answers rows that name nobody.

    Raises:
        RequestError: there is no row, a value is of the wrong kind or out of range, or there are too many.
    """
    requests: list[PictureRequest] = []
    for number, row in enumerate(_read_rows(rows, params or {}, methods), start=1):
        if row.method not in (None, *methods, ALL_METHODS):
            raise RequestError(f"row {number}: {_unknown_method(methods)}")
        chosen = methods if row.method == ALL_METHODS else [row.method or methods[0]]
        first = secrets.randbelow(MAX_SEED - MAX_PICTURES) if row.seed is None else row.seed
        requests += [
            PictureRequest(row.prompt, first + i, row.num_inference_steps, row.guidance_scale, method)
            for method in chosen
            for i in range(row.num_images or 1)
        ]
        if len(requests) > MAX_PICTURES:
            raise RequestError(f"the rows ask for more than {MAX_PICTURES} pictures per request")
    return requests


def _read_rows(rows: Rows, params: Mapping[str, Any], methods: Sequence[str]) -> list[Row]:
    if isinstance(rows, pd.DataFrame) and "prompt" not in rows.columns:
        raise RequestError("every row needs a prompt")
    if not len(rows):
        raise RequestError("the request has no row: send at least one prompt")
    if len(rows) > MAX_PICTURES:
        raise RequestError(f"the request has {len(rows)} rows: at most {MAX_PICTURES} pictures per request")
    given: Any = rows
    if isinstance(rows, pd.DataFrame):
        given = rows.to_dict("records")
        for row, column in np.argwhere(rows.isna().to_numpy()):  # a gap in a column may be NaN
            given[row][rows.columns[column]] = None
    if params:
        _know(params, Options, "params")
        defaults = _check(OPTIONS, params, methods).model_dump(exclude_none=True)
        given = [{**defaults, **{key: v for key, v in each.items() if v is not None}} for each in given]
    for number, named in enumerate(given, start=1):
        _know(named, Row, f"row {number}")
    return _check(ROWS, given, methods)


def _know(given: Mapping[str, Any], model: type[Wire], where: str) -> None:
    # not left to pydantic, which takes a second to list 90,000 of them
    if unknown := given.keys() - model.model_fields.keys():
        known = ", ".join(model.model_fields)
        raise RequestError(f"{where} has {len(unknown)} unknown keys: it may have {known}")


def _check(model: TypeAdapter[T], value: Any, methods: Sequence[str]) -> T:
    try:
        return model.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    *row, name = first["loc"]
    where = f"row {int(row[0]) + 1}" if row else "params"
    raise RequestError(f"{where}: {_unknown_method(methods) if name == 'method' else _sentence(first)}")


def _unknown_method(methods: Sequence[str]) -> str:
    return f"method must be one of {', '.join([*methods, ALL_METHODS])}"


def _sentence(error: ErrorDetails) -> str:
    """Which value is wrong, and what it may be; the value itself is not repeated."""
    name, value = str(error["loc"][-1]), error["input"]
    if name != "prompt":
        low, high = _limits(name)
        whole = "whole " if isinstance(value, float) and low <= value <= high else ""
        return f"{name} must be a {whole}number from {low:g} to {high:.10g}"
    if error["type"] == "missing" or value is None:
        return "the prompt is missing"
    if not isinstance(value, str):
        return "the prompt must be text"
    if error["type"] == "string_too_long":
        return f"the prompt has {len(value)} characters, at most {MAX_PROMPT_LENGTH} are allowed"
    return NO_TEXT if error["type"] == "string_unicode" or "\0" in value else "the prompt is empty"


@cache
def _limits(name: str) -> tuple[float, float]:
    either = Options.model_json_schema()["properties"][name]["anyOf"]
    return either[0]["minimum"], either[0]["maximum"]

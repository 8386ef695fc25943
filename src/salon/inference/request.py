"""What may be asked of a served model: its limits, and requests read from rows."""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

MAX_PROMPT_LENGTH = 1000  # characters
MAX_PICTURES = 64  # per request: a request must end
MAX_STEPS = 200
MAX_GUIDANCE_SCALE = 100.0
MAX_SEED = 2**32 - 1  # exact even where pandas makes floats of a column with gaps

ALL_METHODS = "all"
OPTIONS = ("method", "seed", "num_inference_steps", "guidance_scale", "num_images")
"""What a row may say beside its prompt; params say it for all rows, and the row wins."""


class RequestError(MlflowException):
    """A request that cannot be met; becomes a 400 with one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)
        self.sentence = sentence

    def serialize_as_json(self) -> str:
        # the scoring server puts the whole payload in front of `message`: whoever sent it has it
        return json.dumps({"error_code": self.error_code, "message": self.sentence})


@dataclass(frozen=True)
class PictureRequest:
    """One picture to draw; None takes the model's own value."""

    prompt: str
    seed: int
    num_inference_steps: int | None
    guidance_scale: float | None
    method: str = ""


def read_requests(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    params: Mapping[str, Any] | None = None,
    *,
    methods: Sequence[str] = ("",),
) -> list[PictureRequest]:
    """One request per picture, in the order of the rows; a row's pictures have consecutive seeds.

    Args:
        methods: Who may be asked; the first answers rows that name nobody.

    Raises:
        RequestError: there is no row, a value is of the wrong kind or out of range, or there are too many.
    """
    if isinstance(rows, pd.DataFrame):
        if "prompt" not in rows.columns:
            raise RequestError("every row needs a prompt")
        table, rows = rows, [{}] * len(rows)
        if len(table) <= MAX_PICTURES:
            rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    if not rows:
        raise RequestError("the request has no row: send at least one prompt")
    if len(rows) > MAX_PICTURES:
        raise RequestError(f"the request has {len(rows)} rows: at most {MAX_PICTURES} pictures per request")
    defaults = {name: value for name, value in (params or {}).items() if name in OPTIONS}
    requests: list[PictureRequest] = []
    for number, row in enumerate(rows, start=1):
        # a gap in a column arrives as None or as NaN
        given = {name: value for name, value in row.items() if not _is_gap(value)}
        options = {**defaults, **given}
        requests += _read_row(options, number=number, methods=methods)
        if len(requests) > MAX_PICTURES:
            raise RequestError(f"the rows ask for more than {MAX_PICTURES} pictures per request")
    return requests


def _read_row(options: Mapping[str, Any], *, number: int, methods: Sequence[str]) -> list[PictureRequest]:
    where = f"row {number}"
    prompt = _read_prompt(options.get("prompt"), where=where)
    chosen = _read_method(options.get("method"), methods, where=where)
    seed = _integer(options, "seed", low=0, high=MAX_SEED, where=where)
    steps = _integer(options, "num_inference_steps", low=1, high=MAX_STEPS, where=where)
    scale = _number(options, "guidance_scale", low=0, high=MAX_GUIDANCE_SCALE, where=where)
    count = _integer(options, "num_images", low=1, high=MAX_PICTURES, where=where) or 1
    first = secrets.randbelow(MAX_SEED - MAX_PICTURES) if seed is None else seed
    return [
        PictureRequest(prompt, first + i, steps, scale, method) for method in chosen for i in range(count)
    ]


def _read_method(value: Any, methods: Sequence[str], *, where: str) -> Sequence[str]:
    if value is None:
        return methods[:1]
    if value == ALL_METHODS:
        return methods
    if not isinstance(value, str) or value not in methods:
        raise RequestError(f"{where}: method must be one of {', '.join([*methods, ALL_METHODS])}")
    return [value]


def _read_prompt(value: Any, *, where: str) -> str:
    if value is None:
        raise RequestError(f"{where}: the prompt is missing")
    if not isinstance(value, str):
        raise RequestError(f"{where}: the prompt must be text")
    if not value.strip():
        raise RequestError(f"{where}: the prompt is empty")
    if len(value) > MAX_PROMPT_LENGTH:
        raise RequestError(
            f"{where}: the prompt has {len(value)} characters, at most {MAX_PROMPT_LENGTH} are allowed"
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError(f"{where}: the prompt holds characters that are not text")
    return value


def _integer(options: Mapping[str, Any], name: str, *, low: int, high: int, where: str) -> int | None:
    number = _number(options, name, low=low, high=high, where=where)
    if number is None:
        return None
    if number != int(number):
        raise RequestError(f"{where}: {name} must be a whole number from {low} to {high}")
    return int(number)


def _number(options: Mapping[str, Any], name: str, *, low: float, high: float, where: str) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    # bool is an int to Python, but `true` is no seed; numpy scalars become Python's own
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{where}: {name} must be a number from {low:g} to {high:g}")
    return value


def _is_gap(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))

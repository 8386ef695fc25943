"""The body of a scoring request, in the forms that MLflow's server knows, without building a table of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salon.inference.request import OPTIONS, RequestError

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
ROW_KEYS = ("prompt", *OPTIONS)
MAX_DEPTH = 6  # no valid request is deeper than four


@dataclass(frozen=True)
class Payload:
    """Rows as they came, not yet checked."""

    rows: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any]
    bare: bool
    """A prompt without any of the forms around it, which MLflow answers with a bare list."""


def read_payload(body: bytes) -> Payload:
    """The rows and params of a JSON body.

    Raises:
        RequestError: it is no JSON, too deep, or none of the known forms.
    """
    value = _read_json(body)
    if not isinstance(value, dict):
        raise RequestError(f"the body must be a JSON object with one of {', '.join(FORMS)}")
    if "prompt" in value:
        return Payload([_known_keys(value, "the request")], {}, bare=True)
    params = value.pop("params", None)
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise RequestError("params must be a JSON object")
    if unknown := params.keys() - set(OPTIONS):
        raise RequestError(f"params has {len(unknown)} unknown keys: it may have {', '.join(OPTIONS)}")
    if len(value) != 1 or next(iter(value)) not in FORMS:
        raise RequestError(f"the body must have exactly one of {', '.join(FORMS)}, and may have params")
    ((form, content),) = value.items()
    match form:
        case "dataframe_split":
            rows = _from_split(content)
        case "dataframe_records":
            rows = _from_records(content, form)
        case _:
            rows = _from_columns(content, form) if isinstance(content, dict) else _from_records(content, form)
    return Payload([_known_keys(row, f"row {i}") for i, row in enumerate(rows, start=1)], params, bare=False)


def _read_json(body: bytes) -> Any:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (
        ValueError,
        RecursionError,
    ):  # ValueError: not UTF-8, not JSON, or a number of thousands of digits
        raise RequestError("the body is not valid JSON in UTF-8") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise RequestError(f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _known_keys(row: dict[str, Any], where: str) -> dict[str, Any]:
    if unknown := row.keys() - set(ROW_KEYS):
        raise RequestError(f"{where} has {len(unknown)} unknown keys: it may have {', '.join(ROW_KEYS)}")
    return row


def _from_split(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, dict) or not content.keys() <= {"columns", "data", "index"}:
        raise RequestError("dataframe_split must be a JSON object with columns and data")
    columns, data = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestError("dataframe_split: columns must be a list of names")
    if len(set(columns)) != len(columns):
        raise RequestError("dataframe_split: a column stands twice")
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise RequestError("dataframe_split: data must be a list of rows, each a list")
    if any(len(row) != len(columns) for row in data):
        raise RequestError(f"dataframe_split: every row must have {len(columns)} values, one per column")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_records(content: Any, form: str) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise RequestError(f"{form} must be a list of rows, each a JSON object")
    return content


def _from_columns(content: dict[str, Any], form: str) -> list[dict[str, Any]]:
    columns = {name: value for name, value in content.items() if isinstance(value, list)}
    if not columns:
        return [content]
    lengths = {len(value) for value in columns.values()}
    if len(columns) != len(content) or len(lengths) != 1:
        raise RequestError(f"{form}: columns must be lists of one length")
    return [{name: value[i] for name, value in columns.items()} for i in range(lengths.pop())]

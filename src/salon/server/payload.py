"""The body of a scoring request, in the forms that MLflow's server knows, without building a table of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salon.inference.contract import FORMS, Table
from salon.inference.request import RequestError


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
        RequestError: it is no JSON, or none of the known forms.
    """
    try:
        # not pydantic's: half a character, which a browser may send, is told as that and not as no JSON
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or a number of thousands of digits
        raise RequestError("the body is not valid JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body must be a JSON object with one of {', '.join(FORMS)}")
    if "prompt" in value:
        return Payload([value], {}, bare=True)
    params = value.pop("params", None)
    if not isinstance(params, dict | None):
        raise RequestError("params must be a JSON object")
    if len(value) != 1 or next(iter(value)) not in FORMS:
        raise RequestError(f"the body must have exactly one of {', '.join(FORMS)}, and may have params")
    ((form, content),) = value.items()
    if form == "dataframe_split":
        rows = _from_split(content)
    elif isinstance(content, dict) and form != "dataframe_records":
        rows = _from_columns(content, form)
    elif _is_list(content, of=dict):
        rows = content
    else:
        raise RequestError(f"{form} must be a list of rows, each a JSON object")
    return Payload(rows, params or {}, bare=False)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_list(value: Any, *, of: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, of) for each in value)


def _from_split(content: Any) -> list[dict[str, Any]]:
    table: Any = content if isinstance(content, dict) and content.keys() <= Table.model_fields.keys() else {}
    columns, data = table.get("columns"), table.get("data")
    if not (_is_list(columns, of=str) and _is_list(data, of=list)):
        raise RequestError(
            "dataframe_split must be a JSON object with columns and data: a list of names, and a list of rows"
        )
    if len(set(columns)) != len(columns):
        raise RequestError("dataframe_split: a column stands twice")
    if any(len(row) != len(columns) for row in data):
        raise RequestError(f"dataframe_split: every row must have {len(columns)} values, one per column")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_columns(content: dict[str, Any], form: str) -> list[dict[str, Any]]:
    columns = {name: value for name, value in content.items() if isinstance(value, list)}
    if not columns:
        return [content]
    lengths = {len(value) for value in columns.values()}
    if len(columns) != len(content) or len(lengths) != 1:
        raise RequestError(f"{form}: columns must be lists of one length")
    return [{name: value[i] for name, value in columns.items()} for i in range(lengths.pop())]

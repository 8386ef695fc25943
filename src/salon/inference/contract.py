"""The contract of a served model: JSON Schema of what is asked and answered, and MLflow's signature.

    python -m salon.inference.contract docs/serving.schema.json

A valid request may still be refused for what its method does not support, for more than `MAX_PICTURES` in
all, or for a value in a table (`dataframe_split`), where a schema cannot tell columns apart.
"""

import sys
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema
from pydantic import Field, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from salon.files import write_json
from salon.inference.request import MAX_PICTURES, Options, Row, Wire

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MLFLOW_TYPES: dict[Any, Any] = {
    str: DataType.string,
    int: DataType.long,
    float: DataType.double,
    list[str]: Array(DataType.string),
}

PNG_IN_BASE64: dict[str, Any] = {"contentEncoding": "base64", "contentMediaType": "image/png"}
AtMost = Field(min_length=1, max_length=MAX_PICTURES)
Rows = Annotated[list[Row], AtMost]


class Picture(Wire):
    """A drawn picture."""

    image_png_base64: str = Field(pattern="^[A-Za-z0-9+/]+=*$", json_schema_extra=PNG_IN_BASE64)
    prompt: str
    seed: int
    """Draws this picture again."""
    method: str
    model_version: str
    milliseconds: float
    """Time of its batch over the batch's pictures."""
    warnings: list[str]


class Table(Wire):
    """Rows without the names of their columns."""

    columns: list[str] = Field(min_length=1)
    data: Annotated[list[list[Any]], AtMost]
    index: list[Any] = Field(default=[])


def _column(field: FieldInfo) -> Any:
    values: Any = Annotated[list[field.rebuild_annotation()], AtMost]  # type: ignore[misc]
    return (values, ...) if field.is_required() else (values, None)


def _model(name: str, fields: dict[str, Any]) -> Any:
    return create_model(name, __base__=Wire, **fields)


Columns = _model("Columns", {name: _column(field) for name, field in Row.model_fields.items()})
Content = Rows | Row | Columns
FORMS = {"dataframe_split": Table, "dataframe_records": Rows, "inputs": Content, "instances": Content}
OPTIONS = {"params": (Options | None, None)}
Form = reduce(or_, [_model(form, {**OPTIONS, form: (content, ...)}) for form, content in FORMS.items()])


class Answer(Wire):
    predictions: list[Picture]


class Problem(Wire):
    """One sentence that says why a request was refused."""

    error_code: str
    message: str


class Health(Wire):
    status: Literal["loading", "ready", "failed"]
    models: dict[str, str]
    """Version of each method that serves."""
    loading: list[str]
    problems: dict[str, str]
    """What is wrong, by method or `registry`."""


class ServedMethod(Wire):
    method: str
    version: str
    family: str
    model_sha256: str
    data_sha256: str


class Models(Wire):
    methods: list[ServedMethod]
    words: dict[str, list[str]]
    examples: list[str]


PARTS: dict[str, Any] = {
    "request": Row | Form,
    "answer": Answer,
    "bare_answer": list[Picture],
    "error": Problem,
    "health": Health,
    "models": Models,
}


class _Untitled(GenerateJsonSchema):
    """A title that repeats the name of a field says nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def contract() -> dict[str, Any]:
    """One document; `$defs` holds request, answer, error, health and models."""
    parts, document = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(kind)) for name, kind in PARTS.items()],
        title="Salon's scoring contract",
        description="POST /invocations with application/json. Beside it GET /health, /models, /metrics.",
        schema_generator=_Untitled,
    )
    defs = {**document["$defs"], **{name: schema for (name, _), schema in parts.items()}}
    return {"$schema": DIALECT, **document, "$defs": defs, "$ref": "#/$defs/request"}


def _param(name: str) -> ParamSpec:
    annotation = get_args(Options.model_fields[name].annotation)[0]
    return ParamSpec(name, MLFLOW_TYPES[getattr(annotation, "__origin__", annotation)], None)


# `any`: MLflow refuses an integer column with gaps, so that only some rows could not have a seed
_OPTIONAL = [ColSpec(AnyType(), name, required=False) for name in Options.model_fields]
_DRAWN = [ColSpec(MLFLOW_TYPES[field.annotation], name) for name, field in Picture.model_fields.items()]
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "prompt"), *_OPTIONAL]),
    outputs=Schema([*_DRAWN]),
    params=ParamSchema([_param(name) for name in Options.model_fields]),
)


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), contract(), sort_keys=False)

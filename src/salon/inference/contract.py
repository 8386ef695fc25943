"""The contract of a served model as JSON Schema: what may be asked, and what is answered.

    python -m salon.inference.contract docs/serving.schema.json

Limits are those of `salon.inference.request`. A valid request may still be refused for a value that its
method
does not support, or for more than `MAX_PICTURES` pictures in all.
"""

import json
import sys
from pathlib import Path
from typing import Any

from salon.inference.request import (
    MAX_GUIDANCE_SCALE,
    MAX_PICTURES,
    MAX_PROMPT_LENGTH,
    MAX_SEED,
    MAX_STEPS,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def contract() -> dict[str, Any]:
    """One document; `$defs` holds request, answer, error, health and models."""
    return {
        "$schema": DIALECT,
        "title": "Salon's scoring contract",
        "description": "POST /invocations with application/json. Beside it GET /health, /models, /metrics.",
        "$defs": {
            "options": _options(),
            "row": _object({"prompt": _prompt(), **_options()["properties"]}, required=["prompt"]),
            "request": _request(),
            "picture": _picture(),
            "answer": _object({"predictions": _list({"$ref": "#/$defs/picture"})}),
            "bare_answer": _list({"$ref": "#/$defs/picture"}),
            "error": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
            "health": _health(),
            "models": _models(),
        },
        "$ref": "#/$defs/request",
    }


def write_contract(path: Path) -> None:
    """Write the document as the docs hold it."""
    path.write_text(json.dumps(contract(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _object(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits}


def _optional(**schema: Any) -> dict[str, Any]:
    return {"type": [schema.pop("type"), "null"], **schema}


def _prompt() -> dict[str, Any]:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PROMPT_LENGTH,
        "pattern": r"\S",
        "description": "What to draw, in English or Russian.",
    }


def _options() -> dict[str, Any]:
    return _object(
        {
            "method": _optional(type="string", description="Who draws; `all` is one picture from each."),
            "seed": _optional(type="integer", minimum=0, maximum=MAX_SEED, description="Drawn when absent."),
            "num_inference_steps": _optional(type="integer", minimum=1, maximum=MAX_STEPS),
            "guidance_scale": _optional(type="number", minimum=0, maximum=MAX_GUIDANCE_SCALE),
            "num_images": _optional(
                type="integer", minimum=1, maximum=MAX_PICTURES, description="With consecutive seeds."
            ),
        },
        required=[],
    )


def _request() -> dict[str, Any]:
    rows = _list({"$ref": "#/$defs/row"}, minItems=1, maxItems=MAX_PICTURES)
    table = _object(
        {
            "columns": _list({"type": "string"}, minItems=1),
            "data": _list({"type": "array"}, minItems=1, maxItems=MAX_PICTURES),
            "index": {"type": "array"},
        },
        required=["columns", "data"],
    )
    columns = {"type": "object", "required": ["prompt"]}
    either = {"anyOf": [rows, columns]}
    forms = {
        "dataframe_records": rows,
        "dataframe_split": table,
        "inputs": either,
        "instances": either,
    }
    params = {"anyOf": [{"$ref": "#/$defs/options"}, {"type": "null"}]}
    return {
        "oneOf": [
            {"$ref": "#/$defs/row"},
            *(_object({form: schema, "params": params}, required=[form]) for form, schema in forms.items()),
        ]
    }


def _picture() -> dict[str, Any]:
    return _object(
        {
            "image_png_base64": {
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": "image/png",
                "pattern": "^[A-Za-z0-9+/]+=*$",
            },
            "prompt": {"type": "string"},
            "seed": {"type": "integer", "description": "Draws this picture again."},
            "method": {"type": "string"},
            "model_version": {"type": "string"},
            "milliseconds": {"type": "number", "description": "Time of its batch over the batch's pictures."},
            "warnings": _list({"type": "string"}),
        }
    )


def _health() -> dict[str, Any]:
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    return _object(
        {
            "status": {"enum": ["loading", "ready", "failed"]},
            "models": {**strings, "description": "Version of each method that serves."},
            "loading": _list({"type": "string"}),
            "problems": {**strings, "description": "What is wrong, by method or `registry`."},
        }
    )


def _models() -> dict[str, Any]:
    text = {"type": "string"}
    method = _object(
        {"method": text, "version": text, "family": text, "model_sha256": text, "data_sha256": text}
    )
    return _object(
        {
            "methods": _list(method),
            "words": {"type": "object", "additionalProperties": _list(text)},
            "examples": _list(text),
        }
    )


if __name__ == "__main__":
    write_contract(Path(sys.argv[1]))

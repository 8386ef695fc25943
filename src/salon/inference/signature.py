"""What MLflow is told of a served model's rows and answers."""

from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from salon.inference.request import OPTIONS

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "prompt"),
            # `any`: MLflow refuses an integer column with gaps, so that only some rows could not have a seed
            *(ColSpec(AnyType(), name, required=False) for name in OPTIONS),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "image_png_base64"),
            ColSpec(DataType.string, "prompt"),
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.string, "method"),
            ColSpec(DataType.string, "model_version"),
            ColSpec(DataType.double, "milliseconds"),
            ColSpec(Array(DataType.string), "warnings"),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("method", DataType.string, None),
            ParamSpec("seed", DataType.long, None),
            ParamSpec("num_inference_steps", DataType.long, None),
            ParamSpec("guidance_scale", DataType.double, None),
            ParamSpec("num_images", DataType.long, None),
        ]
    ),
)

"""Where models that were registered before the rooms were moved look for their class."""

from salon.inference.mlflow_model import ServedModel

__all__ = ["ServedModel"]

"""What MLflow copies into every model that it logs: no code of its own that could run for another version.

The model runs the installed package (`salon.inference.mlflow_model`), which refuses weights of other code.
"""

import mlflow

from salon.inference.mlflow_model import ServedModel

mlflow.models.set_model(ServedModel())

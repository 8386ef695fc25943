"""What MLflow copies into every model that it logs: no code of its own that could run for another version.

The model runs the installed package (`salon.serving.served`), which refuses weights that are not of it.
"""

import mlflow

from salon.serving.served import ServedModel

mlflow.models.set_model(ServedModel())

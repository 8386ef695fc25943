"""The MLflow run, the registry, and who becomes champion."""

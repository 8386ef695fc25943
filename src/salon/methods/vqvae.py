"""What `params.yaml` of the release before calls `masked_prior`: `dvc.yaml` looks for a file of that name."""

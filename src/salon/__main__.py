"""Process set-up that must come before torch or mlflow is imported, then the command line."""

import os
import sys

PROCESS_ENVIRONMENT = {
    # A busy second core makes spinning OpenMP threads 24x slower, passive ones 2x. A short spin before they
    # sleep trains small networks 1.5x as fast on quiet cores, and 0.74x as fast as none on busy ones.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "4000",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def main() -> None:
    """Run one command of Salon."""
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    from salon.cli import app
    from salon.errors import SalonError

    try:
        app()
    except SalonError as error:
        print(f"salon: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ending:  # 2 means a gate, not a mistyped option
        sys.exit(1 if ending.code == 2 else ending.code)


if __name__ == "__main__":
    main()

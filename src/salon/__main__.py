"""Process set-up that must come before torch or mlflow is imported, then the command line."""

import ctypes
import os
import platform
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

# mallopt(3), from malloc.h, with the largest values that glibc accepts
M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD = -1, 2**31 - 1
M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD = -3, 32 * 2**20
MALLOC_VARIABLES = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_"}


def set_up_process() -> None:
    """What the process must know before torch or mlflow is imported; what the caller has set stays."""
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Activations are freed and asked for again in each layer. Left alone, glibc gives them back to the kernel
    # in between: 16 pictures cost 10,000 page faults and more, up to an eighth of the time of drawing them.
    told = os.environ.keys() & MALLOC_VARIABLES or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if platform.libc_ver()[0] == "glibc" and not told:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)


def main() -> None:
    """Run one command of Salon."""
    set_up_process()

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

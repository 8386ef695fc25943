"""How many processors this process may use; no framework is imported to know it."""

import os


def count_cpus() -> int:
    """Those that the process is bound to, where the system tells, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

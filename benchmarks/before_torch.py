"""Import this first: it sets what the process must know before torch is imported, as `salon` itself does."""

import os

from salon.__main__ import PROCESS_ENVIRONMENT

for name, value in (PROCESS_ENVIRONMENT | {"TQDM_DISABLE": "1"}).items():
    os.environ.setdefault(name, value)

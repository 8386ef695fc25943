"""Import this first: it sets what the process must know before torch is imported, as `salon` itself does."""

import os

from salon.__main__ import set_up_process

os.environ.setdefault("TQDM_DISABLE", "1")
set_up_process()

"""What a process is told before torch is imported, and files of JSON."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from salon.errors import SalonError
from salon.files import read_json, write_json

ALLOCATE = """
import resource
import numpy as np
from salon.__main__ import set_up_process

if {set_up}:
    set_up_process()
np.ones(2**21)  # 16 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**21)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


TRIM = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072"}


def count_page_faults(*, set_up: bool, **environment: str) -> int:
    """Of twenty allocations of the same 16 MB, one after the other."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    code = ALLOCATE.format(set_up=set_up)
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc")
def test_memory_that_was_freed_is_kept() -> None:
    kept = count_page_faults(set_up=True, MALLOC_ARENA_MAX="2")  # another's business
    assert kept < 100
    assert count_page_faults(set_up=False) > 100 + 2 * kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc")
@pytest.mark.parametrize("told", [TRIM, TUNABLES])
def test_what_the_caller_says_of_memory_stays(told: dict[str, str]) -> None:
    assert count_page_faults(set_up=True, **told) > 1000


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_file_without_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "figures.json"
    path.write_bytes(content)
    with pytest.raises(SalonError, match=r"figures\.json is not JSON \(.*\): put it back"):
        read_json(path)


def test_what_is_written_is_read_and_nothing_else_lies_there(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "figures.json", {"b": [1.5], "a": "ё"})
    assert read_json(tmp_path / "deep" / "figures.json") == {"a": "ё", "b": [1.5]}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["figures.json"]

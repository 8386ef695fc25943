"""Every stage in a clone of the working tree: is the pipeline whole? The workspace itself is not touched."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from salon.errors import SalonError
from salon.files import read_json, write_text
from salon.params import Params, load_params
from salon.params.profiles import lay_over
from salon.paths import Paths

RUNNING = re.compile(rb"Running stage '([^']+)'")
# what points a run at another store, or git (inside a hook) at another repository, than the clone's own
FOREIGN = re.compile(
    r"MLFLOW_(TRACKING_URI|REGISTRY_URI|RUN_ID|EXPERIMENT_ID)|GIT_(DIR|INDEX_FILE|WORK_TREE)"
)


def run(paths: Paths, *, keep: Path | None = None) -> None:
    """Run `dvc repro` at the smoke profile in a clone, which `keep` names or which is deleted afterwards.

    Raises:
        SalonError: a stage failed, or `keep` exists already.
    """
    with clone_folder(keep) as folder:
        clone = make_clone(paths, folder)
        apply_profile(clone, "smoke")
        seconds = repro(clone)
        print("\n".join(summary(load_params(clone.params), clone, seconds)))
    if keep:
        print(f"kept in {keep}")


def make_clone(paths: Paths, folder: Path) -> Paths:
    """Copy what git tracks or would track, but for results, into `folder`, as a git repository of its own.

    Raises:
        SalonError: the workspace is no git repository.
    """
    left_out = [":(exclude)reports", ":(exclude)dvc.lock"]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", *left_out]
    listing = subprocess.run(command, cwd=paths.root, capture_output=True, check=False)
    if listing.returncode:
        raise SalonError(f"{paths.root.resolve()} is no git repository: {listing.stderr.decode().strip()}")
    for name in sorted(set(os.fsdecode(listing.stdout).split("\0")) - {""}):
        source = paths.root / name
        if source.is_file():  # a deleted file is still listed
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    identity = ["-c", "user.name=salon", "-c", "user.email=salon@localhost", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "-m", "clone"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=clone_environment(folder))
    return Paths(folder)


def apply_profile(clone: Paths, name: str) -> None:
    """Lay a profile over the clone's `params.yaml`."""
    write_text(clone.params, lay_over(clone, name)[0])


def clone_environment(folder: Path) -> dict[str, str]:
    """The environment of a process that works on the clone: its sources, its stores, this interpreter."""
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        # an editable installation would run the workspace's sources instead
        "PYTHONPATH": str(folder.resolve() / "src"),
        "DVC_SITE_CACHE_DIR": str(folder.resolve() / ".salon" / "dvc"),
        "DVC_NO_ANALYTICS": "true",
        "PYTHONUNBUFFERED": "1",  # the time of a stage is the time of its line
        "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
    }


def repro(clone: Paths, *targets: str) -> dict[str, float]:
    """Run `dvc repro` in the clone, its output passed on; seconds per stage that ran.

    Raises:
        SalonError: a stage failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *targets],
        cwd=clone.root,
        env=clone_environment(clone.root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that the stage under way can be ended together with dvc
    )
    try:
        seconds = _time_stages(process)
        code = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    if code:
        failed = list(seconds)[-1] if seconds else "no stage"
        raise SalonError(f"`dvc repro` failed with exit status {code} in {failed}: see the output above")
    return seconds


def summary(params: Params, clone: Paths, seconds: Mapping[str, float]) -> list[str]:
    """Seconds per stage and the figures that came out, one line each."""
    lines = ["", "seconds per stage"]
    lines += [f"  {stage:24}{value:7.1f}" for stage, value in seconds.items()]
    lines.append(f"  {'together':24}{sum(seconds.values()):7.1f}")
    for name in params.methods:
        test = read_json(clone.metrics(name))["test"]["alignment"]
        figures = ", ".join(f"{attribute} {estimate['value']:.1%}" for attribute, estimate in test.items())
        registration = read_json(clone.registration(name))
        place = f"{registration['name']} version {registration['version']}, {registration['alias']}"
        lines += [f"{name}: right on test: {figures}", f"{name}: {place}"]
    return lines


def _time_stages(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    assert process.stdout is not None
    started: list[tuple[str, float]] = []
    line = b""
    # read1 passes progress bars on as they move, which never end a line
    while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
        sys.stdout.write(chunk.decode("utf-8", errors="replace"))
        sys.stdout.flush()
        *whole, line = (line + chunk).split(b"\n")
        found = filter(None, map(RUNNING.search, whole))
        started += [(match[1].decode(), time.monotonic()) for match in found]
    ends = [moment for _, moment in started[1:]] + [time.monotonic()]
    return {name: end - start for (name, start), end in zip(started, ends, strict=False)}


@contextmanager
def clone_folder(keep: Path | None) -> Iterator[Path]:
    """`keep`, or a folder that is deleted at the end.

    SIGTERM leaves the block as Ctrl-C does, so that the clone and the stage under way go with it.
    """
    if keep:
        if keep.exists() and any(keep.iterdir()):
            raise SalonError(f"{keep} exists and is not empty: name a new folder to keep the clone in")
        keep.mkdir(parents=True, exist_ok=True)
    temporary = partial(tempfile.TemporaryDirectory, prefix="salon-smoke-", ignore_cleanup_errors=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with nullcontext(keep) if keep else temporary() as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)

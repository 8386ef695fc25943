"""MLflow's servers, started by a test and ended with everything that they started."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_port

READY_SECONDS = 90


@contextmanager
def server(command: list[str], *, cwd: Path, health: str, env: dict[str, str]) -> Iterator[str]:
    """Start `command` with {port} filled in, wait until it answers, and end its whole process group."""
    port = free_port()
    log = cwd / "server.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *(part.format(port=port) for part in command)],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command} did not start:\n{log.read_text(encoding='utf-8')[-3000:]}")
            try:
                urllib.request.urlopen(url + health, timeout=2)
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    folder.mkdir()
    command = ["server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", f"{folder}/artifacts"]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with server(command, cwd=folder, health="/health", env=env) as url:
        yield url

"""`salon serve` as a process: what it says when something is wrong, and how it goes on."""

import errno
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ports import free_port
from salon.commands import rollback, sync
from salon.commands import serve as stage
from salon.errors import SalonError
from salon.registry import combined
from salon.registry.champions import Champions
from workspaces import COARSE, NAME, Workspace

READY_SECONDS = 120
COMMAND = [sys.executable, "-m", "salon", "serve", "--port"]


@dataclass(frozen=True)
class Served:
    """A running `salon serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, body=content, headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def draw(self, seed: int = 7) -> dict[str, Any]:
        status, answer = self.ask("POST", "/invocations", {"prompt": "an owl", "seed": seed})
        assert status == 200, answer
        return answer[0]

    def wait(self, condition: Callable[[int, Any], bool]) -> Any:
        """Until /health is so."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            with suppress(OSError, http.client.HTTPException):
                status, health = self.get("/health")
                if condition(status, health):
                    return health
            time.sleep(0.1)

    @property
    def worker(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found


@contextmanager
def serving(root: Path) -> Iterator[Served]:
    port = free_port()
    log = root / "serve.log"
    with subprocess.Popen(
        [*COMMAND, str(port)],
        cwd=root,
        stdout=log.open("w", encoding="utf-8"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            yield Served(process, port, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def is_ready(status: int, health: Any) -> bool:
    return status == 200


def test_one_server_through_promotion_rollback_a_killed_worker_and_a_damaged_champion(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
):
    workspace.edit_params("serve", poll_seconds=0.2)
    workspace.retrain(seed=4, scale=COARSE)
    workspace.register()
    assert not combined.exists(workspace.store)  # four methods are still to come
    sync.run(workspace.params, workspace.paths)
    assert "salon: built, version 1 (champion) holds diffusion 1" in capsys.readouterr().out
    with serving(workspace.root) as served:
        served.wait(is_ready)
        first = served.draw()
        assert (first["method"], first["model_version"]) == (NAME, "1")

        outcomes: list[tuple[int, Any]] = []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                outcomes.append(served.ask("POST", "/invocations", {"prompt": "an owl", "seed": 7}))

        thread = threading.Thread(target=keep_asking)
        thread.start()
        workspace.retrain(seed=1)
        workspace.register()
        served.wait(lambda status, health: health["models"] == {NAME: "2"})
        assert "salon: built, version 2 (champion) holds diffusion 2" in capsys.readouterr().out
        rollback.run(workspace.params, workspace.paths, NAME)
        assert "salon: in step, version 1 (champion) holds diffusion 1" in capsys.readouterr().out
        served.wait(lambda status, health: health["models"] == {NAME: "1"})
        stop.set()
        thread.join()
        assert {status for status, _ in outcomes} == {200}
        assert {answer[0]["model_version"] for _, answer in outcomes} == {"1", "2"}
        assert served.draw()["image_png_base64"] == first["image_png_base64"]

        killed = served.worker
        killed.kill()
        # connections wait in the supervisor's socket; the first answer comes from the new worker
        served.wait(is_ready)
        assert served.worker.pid != killed.pid
        assert served.draw()["image_png_base64"] == first["image_png_base64"]
        assert "ended by SIGKILL; another starts" in served.log.read_text(encoding="utf-8")

        weights = weights_of(workspace, "2")
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        with pytest.raises(SalonError, match="version 2 cannot serve again: the model is damaged"):
            rollback.run(workspace.params, workspace.paths, NAME)
        workspace.store.client.set_registered_model_alias(f"salon-{NAME}", "champion", "2")
        health = served.wait(lambda status, health: NAME in health["problems"])
        assert "version 2 cannot serve: the model is damaged" in health["problems"][NAME]
        assert served.draw()["model_version"] == "1"
    assert served.process.returncode == 0


def weights_of(workspace: Workspace, number: str) -> Path:
    version = workspace.store.client.get_model_version(f"salon-{NAME}", number)
    model = workspace.store.client.get_logged_model(version.source.removeprefix("models:/"))
    folder = Path(model.artifact_location.removeprefix("file://"))
    return folder / "artifacts/bundle/method/model.safetensors"


def run(root: Path, *, max_file_bytes: int | None = None) -> tuple[int, str]:
    """A server that is expected to end by itself."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))  # type: ignore[arg-type]

    done = subprocess.run(
        [*COMMAND, "0"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
        preexec_fn=None if max_file_bytes is None else limit,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_does_what_is_left_to_do(number: signal.Signals):
    """As closing the ballot box."""
    program = """
import socket, uvicorn
from salon.commands.serve import run_server

async def app(scope, receive, send):
    while (message := await receive())["type"].startswith("lifespan"):
        await send({"type": message["type"] + ".complete"})
        print(message["type"], flush=True)

run_server(uvicorn.Server(uvicorn.Config(app, log_level="warning")), socket.create_server(("127.0.0.1", 0)))
print("closed")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(0.3)
        process.send_signal(number)
        assert process.communicate(timeout=READY_SECONDS)[0].splitlines()[-1] == "closed"
    assert process.returncode == 0


def test_corrupted_champion_alone_ends_with_one_sentence(registered_world: Workspace):
    weights = weights_of(registered_world, "1")
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + b"?")
        status, said = run(registered_world.root)
    finally:
        weights.write_bytes(whole)
    assert status == 1
    assert "nothing can be served: salon-diffusion version 1 cannot serve: the model is damaged" in said


def test_missing_registry_says_so(registered_world: Workspace, tmp_path: Path):
    shutil.copyfile(registered_world.paths.params, tmp_path / "params.yaml")
    status, said = run(tmp_path)
    assert status == 1
    assert "mlflow.db does not exist" in said
    assert "make repro" in said


def test_full_disk_at_the_start_says_so(registered_world: Workspace):
    """No file may grow by a byte: what a full disk does, without filling one."""
    status, said = run(registered_world.root, max_file_bytes=0)
    assert status == 1
    assert "no temporary file can be written: is the disk full?" in said


def test_full_disk_stops_a_download_with_a_sentence(
    registered_world: Workspace, monkeypatch: pytest.MonkeyPatch
):
    def no_space(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    champions = Champions(registered_world.store, [NAME])
    number = champions.now()[NAME]
    monkeypatch.setattr("salon.registry.champions.has_files", lambda client, version: True)
    monkeypatch.setattr("salon.registry.champions.local_folder", lambda client, version: None)
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", no_space)
    with (
        pytest.raises(SalonError, match=r"cannot be fetched: .*No space left on device"),
        champions.files(NAME, number),
    ):
        pass


def test_other_hosts_need_a_token_and_ports_must_be_free(
    registered_world: Workspace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(stage.TOKEN, raising=False)
    params = registered_world.params
    with pytest.raises(SalonError, match="lets other machines in: give a token"):
        stage.run(params, host="0.0.0.0", port=0, token=None, methods=[])
    with pytest.raises(SalonError, match="unknown method 'nonesuch'"):
        stage.run(params, host="127.0.0.1", port=0, token=None, methods=["nonesuch"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SalonError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            stage.run(params, host="127.0.0.1", port=port, token=None, methods=[])

"""Somebody who types what a page says, in a workspace in which the pipeline ran at the smoke profile."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pages import REPOSITORY, Step
from ports import free_port
from salon.commands import smoke
from salon.params import load_params

START_SECONDS = 180
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "reader"), ("EMAIL", "reader@localhost"))
}

STAND_INS = {
    "postgresql://salon:<password>@<database host>/salon": "sqlite:///server.db",
    "<this repository>": str(REPOSITORY),
    "<folder or bucket>": "../remote",
    "<host>": "127.0.0.1",
}
"""What a page leaves to its reader, and what the reader of the tests fills in."""

SERVERS = {
    "make serve": (8080, "PORT={port}"),
    "make gallery": (8080, "PORT={port}"),
    "make ui": (5000, "PORT={port}"),
    "salon serve": (8080, "--port {port}"),
    "mlflow server": (5000, "--port {port}"),
    "mlflow models serve": (5000, "--port {port}"),
}
"""Commands that stay, with the port that they take by themselves and how to name another."""

# the environment of the tests is the one that a reader has built, whatever its stamps say
PRELUDE = """
make() { command make --no-print-directory -o "$VENV/.complete" VENV="$VENV" "$@"; }
curl() { command curl --silent --show-error --fail --max-time 60 "$@"; }
"""


@dataclass
class Reader:
    """Keeps what a terminal keeps: folder and variables; and the servers that were started in others."""

    root: Path
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Further than `STAND_INS`, and before them."""
    folder: Path = field(init=False)
    variables: dict[str, str] = field(init=False)
    ports: dict[int, int] = field(default_factory=dict)
    servers: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.root
        inherited = {
            k: v
            for k, v in smoke.clone_environment(self.root).items()
            if not k.startswith(("MAKE", "MFLAGS"))
        }
        self.variables = inherited | {
            "VENV": sys.prefix,
            "BROWSER": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @property
    def registry(self) -> str:
        """The registry that the variables name; empty for that of the workspace."""
        return self.variables.get("MLFLOW_TRACKING_URI", "")

    def follow(self, step: Step) -> str:
        """Do what a page asks for; the output of a command."""
        return self.edit(step.text) if step.kind == "settings" else self.type(step.text)

    @staticmethod
    def is_server(command: str) -> bool:
        """Whether a command stays, so that other terminals can ask it."""
        return _server_of(command) is not None

    def edit(self, settings: str) -> str:
        """Lay YAML over params.yaml, as a reader would by hand."""
        path = self.root / "params.yaml"
        merged = _merged(
            yaml.safe_load(path.read_text(encoding="utf-8")), yaml.safe_load(self.fill_in(settings))
        )
        path.write_text(yaml.safe_dump(merged, allow_unicode=True, sort_keys=False), encoding="utf-8")
        load_params(path)
        return ""

    def type(self, command: str) -> str:
        """Output of a command, which must succeed; a server is started and stays."""
        if server := _server_of(command):
            return self._serve(command, *SERVERS[server])
        state = self.root / ".salon" / "terminal"
        state.parent.mkdir(exist_ok=True)
        script = f'{PRELUDE}\n{self.fill_in(command)}\nenv -0 > "{state}"\npwd >> "{state}"'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        *variables, folder = state.read_text(encoding="utf-8").split("\0")
        self.variables = dict(variable.split("=", 1) for variable in variables)
        self.folder = Path(folder.strip())
        return done.stdout

    def fill_in(self, command: str) -> str:
        """A command with what the page leaves to its reader.

        Raises:
            AssertionError: the page leaves something that no reader of the tests could know.
        """
        command = command.replace("source .venv/bin/activate", 'source "$VENV/bin/activate"')
        command = re.sub(r"(?<!\S)\.venv/bin/", '"$VENV"/bin/', command)
        for gap, value in [*self.stand_ins.items(), *STAND_INS.items()]:
            command = command.replace(gap, value)
        for port, free in self.ports.items():
            command = re.sub(rf"(?<=[: ]){port}\b", str(free), command)
        gaps = re.findall(r"<[^<>]*>|…", command)
        assert not gaps, f"{command}: the tests have no stand-in for {gaps}"
        return command

    def leave(self) -> None:
        """End what was started."""
        for server in self.servers.values():
            _end(server)
        self.servers.clear()

    def _serve(self, command: str, port: int, option: str) -> str:
        if port in self.servers:  # a reader would press Ctrl-C before starting another
            _end(self.servers.pop(port))
        free = self.ports[port] = free_port()
        named = self.fill_in(command)
        if str(free) not in named:
            named = f"{named} {option.format(port=free)}"
        log = self.root / ".salon" / f"server-{port}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            self.servers[port] = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", f"{PRELUDE}\n{named}"],
                cwd=self.folder,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(free):
            said = log.read_text(encoding="utf-8", errors="replace")
            assert self.servers[port].poll() is None, f"{named} ended:\n{said}"
            assert time.monotonic() < deadline, f"{named} does not answer:\n{said}"
            time.sleep(0.2)
        return log.read_text(encoding="utf-8", errors="replace")


def _server_of(command: str) -> str | None:
    return next((server for server in SERVERS if f"{command} ".startswith(f"{server} ")), None)


def _merged(base: Any, changes: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}
    return changes


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except urllib.error.HTTPError as answer:
        return answer.code < 500
    except OSError:
        return False


def _end(server: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(timeout=20)
    with suppress(ProcessLookupError):  # its children, too
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()

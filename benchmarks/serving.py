"""How much more does `salon serve` answer than `mlflow models serve` of the same model?

Both serve the same registered version to the same 32 clients, in turns, so that a busy moment of the machine
meets both; prints pictures per second, latency and memory of each, and the ratio. `--soak 300` then keeps
`salon serve` busy for five minutes and fails unless every answer is a picture or a 503 and the last minute
needs no more memory than the second. Run it in a workspace with champions.

    python benchmarks/serving.py --method diffusion --seconds 30
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import before_torch  # noqa: F401
from load import Tally, resident_gib, run_load

from salon.paths import Paths
from salon.tracking.runs import tracking_uri

READY_SECONDS = 300
MAX_GROWTH = 1.05
THINGS = ("owl", "rocket", "pizza", "umbrella", "cat", "guitar", "cactus", "trophy")
STYLES = ("noto", "twemoji", "fluent 3d", "fluent flat")
COLOURS = ("blue", "yellow", "striped", "white", "green")


@contextmanager
def server(command: list[str], *, root: Path, port: int, health: str) -> Iterator[tuple[int, float]]:
    """Its process id, and the seconds until it was ready."""
    # MLflow starts its server by name
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": programs, "MLFLOW_TRACKING_URI": tracking_uri(Paths(root))}
    started = time.monotonic()
    log_file = root / ".salon" / "benchmark.log"
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=root,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not answers(f"http://127.0.0.1:{port}{health}"):
            if process.poll() is not None or time.monotonic() > started + READY_SECONDS:
                sys.exit(f"{command} did not start: see {log_file}")
            time.sleep(0.1)
        yield process.pid, time.monotonic() - started
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    log_file.unlink()  # reached where nothing failed; else it says why


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(number: int) -> dict[str, Any]:
    """A prompt and a seed that were not asked for before."""
    thing, style = THINGS[number % 8], STYLES[number // 8 % 4]
    colour = COLOURS[number // 32 % 5]
    return {"inputs": [{"prompt": f"a {thing}, {style}, on a {colour} background", "seed": number}]}


def measure(command: list[str], health: str, arguments: argparse.Namespace) -> Tally:
    port = free_port()
    with server(command, root=arguments.root, port=port, health=health) as (pid, seconds):
        print(
            f"  {' '.join(command[:3])}: ready after {seconds:.1f} s, {resident_gib(pid):.2f} GiB", flush=True
        )
        tally = run_load(port, pid, clients=arguments.clients, seconds=arguments.seconds, ask=ask)
        print(f"  {tally.line()}", flush=True)
        return tally


def soak(command: list[str], arguments: argparse.Namespace) -> bool:
    """Whether it held."""
    port = free_port()
    with server(command, root=arguments.root, port=port, health="/health") as (pid, _):
        tally = run_load(port, pid, clients=arguments.clients, seconds=arguments.soak, ask=ask)
    second, last = tally.mean_memory(60, 120), tally.mean_memory(arguments.soak - 60, arguments.soak)
    print(f"soak of {arguments.soak:g} s: {tally.line()}")
    for at, gib in tally.memory[:: max(1, len(tally.memory) // 10)]:
        print(f"  after {at:4.0f} s: {gib:.3f} GiB")
    print(f"memory: second minute {second:.3f} GiB, last minute {last:.3f} GiB, {last / second:.3f} times")
    return last <= MAX_GROWTH * second and not tally.statuses.keys() - {"200", "503"}


def main() -> None:
    """Measure both in turns, then soak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(), help="workspace with a registry")
    parser.add_argument("--method", default="diffusion")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each server")
    parser.add_argument("--soak", type=float, default=0, help="seconds of a soak, at least 180")
    arguments = parser.parse_args()
    arguments.root = arguments.root.resolve()

    ours = ["salon", "serve", "--method", arguments.method]
    theirs = ["mlflow", "models", "serve", "-m", f"models:/salon-{arguments.method}@champion"]
    theirs += ["--env-manager", "local", "--host", "127.0.0.1"]
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1}: {arguments.clients} clients, {arguments.seconds:g} s each", flush=True)
        rounds.append((measure(ours, "/health", arguments), measure(theirs, "/ping", arguments)))
    if rounds:
        ratios = [mine.per_second / other.per_second for mine, other in rounds]
        print(
            f"salon serve answers {sum(ratios) / len(ratios):.2f} times as many as mlflow models serve "
            f"({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )
    if arguments.soak and not soak(["salon", "serve"], arguments):
        sys.exit("the soak failed")


if __name__ == "__main__":
    main()

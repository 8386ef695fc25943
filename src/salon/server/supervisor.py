"""Keeps a worker alive behind one listening socket.

The socket belongs to the supervisor. While a worker that was killed is replaced, who connects waits in the
socket's queue instead of being refused. A worker that says itself that it cannot go on is believed.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType

from salon.errors import SalonError

BACKLOG = 256
SHORT_LIFE_SECONDS = 30.0
MAX_SHORT_LIVES = 3  # killed so often before it could serve, it will be again


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SalonError: the address is not this machine's, or taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SalonError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None


def supervise(
    command: Callable[[int], list[str]], listening: socket.socket, *, environment: Mapping[str, str]
) -> int:
    """Run workers until one ends by itself, or this process is told to stop; returns the exit status.

    Args:
        command: What starts a worker on the socket of this file descriptor. It must end when its standard
            input does: then this process is gone.

    Raises:
        SalonError: workers are killed as soon as they start.
    """
    stopping = False
    worker: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if worker is not None:
            worker.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    short_lives = 0
    try:
        while True:
            started = time.monotonic()
            worker = subprocess.Popen(
                command(listening.fileno()),
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                env=dict(environment),
                process_group=0,  # Ctrl-C reaches it through `stop`, once
            )
            status = worker.wait()
            if stopping or status >= 0:
                return max(status, 0)
            name = signal.Signals(-status).name
            lived = time.monotonic() - started
            short_lives = short_lives + 1 if lived < SHORT_LIFE_SECONDS else 0
            if short_lives == MAX_SHORT_LIVES:
                raise SalonError(
                    f"the worker was ended by {name} {short_lives} times within {SHORT_LIFE_SECONDS:g} s of "
                    "its start: is there enough memory?"
                )
            print(f"salon: the worker was ended by {name}; another starts", file=sys.stderr, flush=True)
    finally:
        if worker is not None and worker.poll() is None:
            worker.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def worker_command(descriptor: int, methods: list[str]) -> list[str]:
    """`salon serve` as a worker."""
    options = [option for method in methods for option in ("--method", method)]
    return [sys.executable, "-m", "salon", "serve", "--worker", str(descriptor), *options]


def end_with_supervisor(stop: Callable[[], None]) -> None:
    """Block until the supervisor is gone, then stop."""
    os.read(0, 1)
    stop()

"""Keeps a worker alive behind one listening socket.

The socket belongs to the supervisor. While a worker that was killed is replaced, who connects waits in the
socket's queue instead of being refused. A worker that says itself that it cannot go on is believed.

uvicorn's own supervisor (0.54) does none of the three things that this one is for: a server that cannot start
is started for ever (16 times in 12 s), one whose supervisor was killed keeps the port, and SIGHUP, the end of
the terminal, is taken for a wish to restart.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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


def supervise(listening: socket.socket, methods: Sequence[str], *, environment: Mapping[str, str]) -> int:
    """Exit status of `salon serve` as a worker, run until one ends by itself or this process must stop.

    Raises:
        SalonError: workers are killed as soon as they start.
    """
    command = [sys.executable, "-m", "salon", "serve", "--worker", str(listening.fileno())]
    command += [option for method in methods for option in ("--method", method)]
    stopping = False
    worker: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if worker is not None:
            worker.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    short_lives = 0
    while True:
        started = time.monotonic()
        worker = subprocess.Popen(
            command,
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,  # by whose end it learns that this process is gone
            env=dict(environment),
            process_group=0,  # Ctrl-C reaches it through `stop`, once
        )
        status = worker.wait()
        if stopping or status >= 0:
            return max(status, 0)
        name = signal.Signals(-status).name
        short_lives = short_lives + 1 if time.monotonic() - started < SHORT_LIFE_SECONDS else 0
        if short_lives == MAX_SHORT_LIVES:
            raise SalonError(
                f"the worker was ended by {name} {short_lives} times within {SHORT_LIFE_SECONDS:g} s of "
                "its start: is there enough memory?"
            )
        print(f"salon: the worker was ended by {name}; another starts", file=sys.stderr, flush=True)


def end_with_supervisor(stop: Callable[[], None]) -> None:
    """Block until the supervisor is gone, then stop."""
    os.read(0, 1)
    stop()

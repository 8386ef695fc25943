"""Serve all champions on one port: a supervisor that listens, and a worker that draws."""

import os
import signal
import socket
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from salon.errors import SalonError
from salon.params import Params
from salon.paths import Paths
from salon.server.supervisor import end_with_supervisor, listen, supervise

if TYPE_CHECKING:
    import uvicorn

TOKEN = "SALON_TOKEN"  # environment variable; an option stands in the list of processes
LOOPBACK = ("127.0.0.1", "localhost", "::1")
STOP_SECONDS = 30  # for requests that are being answered


def run(params: Params, *, host: str, port: int, token: str | None, methods: list[str]) -> None:
    """Listen, and keep a worker alive until told to stop.

    Raises:
        SalonError: a host without a token, an unknown method, or an address that is taken.
    """
    token = token or os.environ.get(TOKEN)
    if host not in LOOPBACK and not token:
        raise SalonError(
            f"--host {host} lets other machines in: give a token that they must send, in {TOKEN} or --token"
        )
    for method in methods:
        params.method(method)
    environment = {"TQDM_DISABLE": "1", **os.environ, **({TOKEN: token} if token else {})}
    with listen(host, port) as listening:
        port = listening.getsockname()[1]
        print(f"salon: http://{host}:{port} (/health says when it is ready)", flush=True)
        sys.exit(supervise(listening, methods, environment=environment))


def work(params: Params, paths: Paths, *, descriptor: int, methods: list[str]) -> None:
    """Serve on a socket that listens already.

    Raises:
        SalonError: the registry cannot be used, or nothing in it can be served.
    """
    try:
        tempfile.gettempdir()  # some of what is imported below insists on one
    except FileNotFoundError:
        raise SalonError(
            "no temporary file can be written: is the disk full? Make room, or name another folder in TMPDIR"
        ) from None
    from salon.registry.champions import Champions  # imports mlflow, without which the supervisor does

    registry = Champions.of(params, paths, methods)  # says what is wrong before torch is imported

    import uvicorn

    from salon.server import gallery
    from salon.server.app import build_app
    from salon.server.batching import BatchQueue
    from salon.server.limits import Limits
    from salon.server.metrics import ServerMetrics
    from salon.server.models import ServedModels
    from salon.server.votes import BallotBox
    from salon.tracking.runs import open_store

    failures: list[SalonError] = []

    def stop(*reasons: SalonError) -> None:
        failures.extend(reasons)
        server.should_exit = True

    metrics = ServerMetrics()
    queue = BatchQueue(params.serve, metrics)
    votes = BallotBox(lambda: open_store(params, paths))
    models = ServedModels(registry, metrics, poll_seconds=params.serve.poll_seconds, on_failure=stop)
    app = build_app(queue, models, metrics)
    app.include_router(gallery.build_router(votes, served=models.versions))
    public = {"/health", *gallery.PUBLIC_PATHS}
    limited = Limits(app, params.serve, token=os.environ.get(TOKEN) or None, public=public)
    config = uvicorn.Config(limited, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS)
    server = uvicorn.Server(config)
    threading.Thread(target=end_with_supervisor, args=[stop], daemon=True).start()
    try:
        run_server(server, socket.socket(fileno=descriptor))
    finally:
        models.close()
        queue.close()
        votes.close()
    if failures:
        raise failures[0]


def run_server(server: "uvicorn.Server", listening: socket.socket) -> None:
    """Serve until told to stop, and return then."""
    # uvicorn raises again what it caught, which would end the process before votes are written
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    server.run(sockets=[listening])

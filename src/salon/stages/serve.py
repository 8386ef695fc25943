"""Serve all champions on one port."""

import os
import sys

import uvicorn

from salon.errors import SalonError
from salon.params import Params
from salon.paths import Paths
from salon.serving import gallery
from salon.serving.app import build_app
from salon.serving.engine import Engine
from salon.serving.limits import LOOPBACK, Limits
from salon.serving.meters import Meters
from salon.serving.roster import Roster
from salon.tracking.champions import Champions
from salon.tracking.ensemble import serving_order
from salon.tracking.runs import open_store
from salon.tracking.votes import VoteBook

TOKEN = "SALON_TOKEN"  # environment variable; an option would stand in the list of processes


def run(params: Params, paths: Paths, *, host: str, port: int, token: str | None, methods: list[str]) -> None:
    """Serve until told to stop.

    Raises:
        SalonError: the registry cannot be used, nothing in it can be served, or a host without a token.
    """
    token = token or os.environ.get(TOKEN) or None
    if host not in LOOPBACK and token is None:
        raise SalonError(
            f"--host {host} lets other machines in: give a token that they must send, in {TOKEN} or --token"
        )
    settings = params.serve
    registry = Champions.of(params, paths, methods)
    failures: list[SalonError] = []

    def give_up(error: SalonError) -> None:
        failures.append(error)
        server.should_exit = True

    meters = Meters()
    engine = Engine(settings, meters)
    votes = VoteBook(lambda: open_store(params, paths))
    roster = Roster(
        registry,
        meters,
        order=[name for name in serving_order(params) if name in registry.methods],
        poll_seconds=settings.poll_seconds,
        on_failure=give_up,
    )
    app = build_app(engine, roster, meters)
    app.include_router(
        gallery.build_router(
            votes, served=lambda: {name: each.version for name, each in roster.champions.items()}
        )
    )
    limited = Limits(app, settings, token=token, public={"/health", *gallery.PUBLIC_PATHS})
    server = uvicorn.Server(
        uvicorn.Config(limited, host=host, port=port, log_level="warning", timeout_graceful_shutdown=30)
    )
    print(f"salon: http://{host}:{port} (loading; /health says when it is ready)", flush=True)
    try:
        server.run()
    finally:
        roster.close()
        engine.close()
        votes.close()
    if failures:
        raise failures[0]
    if not server.started:
        sys.exit(1)

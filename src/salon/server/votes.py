"""Blind votes of the gallery: counted in memory at once, written to MLflow by a thread of their own.

Each process that counts writes one run (stage `votes`) with two running totals per model version,
`votes/<method>_v<version>` and `shown/<method>_v<version>`; it is started by the first vote. Totals are the
sums over all such runs, so that several servers count without asking each other. No prompt is kept.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import Field, model_validator

from salon.inference.request import Wire
from salon.tracking.runs import Run, Store, find_or_start_run, finish_run

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
MAX_WAIT_SECONDS = 300.0  # between two tries of a store that does not answer
CLOSE_SECONDS = 10.0  # what the last try may take when the server stops
REMEMBERED_BALLOTS = 10_000
STAGE = "votes"

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]


class Ballot(Wire, frozen=True):
    """One visitor's choice among pictures of one prompt."""

    ballot: Name
    """Chosen at random by the page: the same ballot sent twice counts once."""
    winner: Name
    """Method whose pictures were called the best."""
    versions: dict[Name, Name] = Field(min_length=2, max_length=64)
    """Version of each method that was shown."""

    @model_validator(mode="after")
    def _winner_was_shown(self) -> "Ballot":
        if self.winner not in self.versions:
            raise ValueError("the winner was not among the methods shown")
        return self


@dataclass(frozen=True)
class Score:
    """How one version fared with all visitors so far."""

    method: str
    version: str
    votes: int
    shown: int


class BallotBox:
    """Counts ballots; the store may be slow or away without anybody noticing."""

    def __init__(self, open_store: Callable[[], Store], *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._open_store = cache(open_store)  # once, when the store answers
        self._flush_seconds = flush_seconds
        self._own: Counter[str] = Counter()  # metric -> running total of this process
        self._others: Counter[str] = Counter()  # the same of all other runs
        self._ballots: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._unsaved = False
        self._awake = threading.Event()  # there is something to do
        self._closing = threading.Event()
        self._run_id: str | None = None
        self._thread = threading.Thread(target=self._write, name="votes", daemon=True)
        self._thread.start()

    def cast(self, ballot: Ballot) -> list[Score]:
        """Count a ballot and return the scores of the versions on it."""
        with self._lock:
            if ballot.ballot not in self._ballots:
                self._ballots[ballot.ballot] = None
                if len(self._ballots) > REMEMBERED_BALLOTS:
                    self._ballots.popitem(last=False)
                self._own[_metric("votes", ballot.winner, ballot.versions[ballot.winner])] += 1
                for method, version in ballot.versions.items():
                    self._own[_metric("shown", method, version)] += 1
                self._unsaved = True
                self._awake.set()
            totals = self._own + self._others
        return [
            Score(method, version, *(totals[_metric(what, method, version)] for what in ("votes", "shown")))
            for method, version in ballot.versions.items()
        ]

    def close(self) -> None:
        """Write what is not written yet, or give up after some seconds."""
        self._closing.set()
        self._awake.set()
        self._thread.join(CLOSE_SECONDS)
        if self._unsaved:
            logger.warning("votes that could not be written to MLflow: %s", dict(self._own))

    def _write(self) -> None:
        """Until closed: read the others' totals once, then write whenever votes have come."""
        wait = 0.0
        while not self._closing.wait(wait):
            try:
                self._synchronise(self._open_store())
            except Exception as error:  # whatever ails the store, the page goes on
                if wait <= self._flush_seconds:
                    logger.warning("votes are kept in memory for now: %s", str(error).partition("\n")[0])
                wait = min(2 * max(wait, self._flush_seconds), MAX_WAIT_SECONDS)
                continue
            wait = self._flush_seconds
            self._awake.wait()
        if self._unsaved:
            with suppress(Exception):
                self._synchronise(self._open_store())
        if self._run_id is not None:
            with suppress(Exception):
                finish_run(self._open_store(), self._run_id)

    def _synchronise(self, store: Store) -> None:
        others = self._read_others(store)
        with self._lock:
            self._others = others
            totals = dict(self._own)
            self._unsaved = False
            self._awake.clear()
            if self._closing.is_set():
                self._awake.set()  # it was told to wake up for this
        if not totals:
            return
        try:
            if self._run_id is None:
                self._run_id = find_or_start_run(store, name="gallery votes", stage=STAGE)
            ballots = sum(total for metric, total in totals.items() if metric.startswith("votes/"))
            Run(store, self._run_id).log_metrics(totals, step=ballots)
        except Exception:
            self._unsaved = True
            raise

    def _read_others(self, store: Store) -> Counter[str]:
        totals: Counter[str] = Counter()
        token = None
        while True:
            runs = store.client.search_runs(
                [store.experiment_id], f"tags.`salon.stage` = '{STAGE}'", max_results=1000, page_token=token
            )
            for run in runs:
                if run.info.run_id != self._run_id:
                    totals.update({key: int(value) for key, value in run.data.metrics.items()})
            if not (token := runs.token):
                return totals


def _metric(what: str, method: str, version: str) -> str:
    return f"{what}/{method}_v{version}"

"""Requests that arrive together are drawn together.

One thread draws: it takes the oldest picture that waits and all others like it (same model, steps and
guidance) up to a batch, waiting a moment for more where nothing else is to do. The queue is bounded; what
does not fit is turned away at once. A job whose time is up or whose client is gone is not begun, and a batch
of which nobody wants a picture any more ends within a step.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from salon.inference.model import DrawnImage, LoadedModel
from salon.inference.request import PictureRequest
from salon.params.serve import ServeParams
from salon.server.metrics import ServerMetrics

logger = logging.getLogger(__name__)

SECONDS_PER_PICTURE = 0.05  # guessed before one was drawn


class QueueFull(Exception):
    """No room for these pictures now."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"the queue is full: try again in {retry_seconds} s")
        self.retry_seconds = retry_seconds


class OutOfTime(Exception):
    """The pictures were not drawn within the time limit."""


class _Stopped(Exception):
    """Nobody waits for this batch any more."""


@dataclass(eq=False)
class Job:
    """The pictures of one request."""

    deadline: float
    """On the monotonic clock."""
    count: int
    future: "Future[list[DrawnImage]]" = field(default_factory=Future)
    pictures: dict[int, DrawnImage] = field(default_factory=dict)

    def is_wanted(self) -> bool:
        """False once it is answered, cancelled or late; a late one is told so."""
        if time.monotonic() >= self.deadline:
            self.fail(OutOfTime())
        return not self.future.done()

    def add(self, index: int, picture: DrawnImage) -> None:
        self.pictures[index] = picture
        if len(self.pictures) == self.count and self._is_open():
            self.future.set_result([self.pictures[i] for i in range(self.count)])

    def fail(self, error: Exception) -> None:
        if self._is_open():
            self.future.set_exception(error)

    def _is_open(self) -> bool:
        """Whether nobody has answered or cancelled it; from then on it cannot be cancelled."""
        return not self.future.done() and self.future.set_running_or_notify_cancel()


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One picture that waits."""

    job: Job
    index: int
    model: LoadedModel
    request: PictureRequest
    arrived: float

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for pictures that can be drawn together."""
        return id(self.model), self.request.num_inference_steps, self.request.guidance_scale


class BatchQueue:
    """The queue and the thread that draws. Models come with the request, so that they may be exchanged."""

    def __init__(self, settings: ServeParams, metrics: ServerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._pace = SECONDS_PER_PICTURE
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return len(self._queue)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, models: Sequence[LoadedModel], requests: Sequence[PictureRequest]) -> Job:
        """Queue one picture per request, each to be drawn by the model at its place.

        Raises:
            QueueFull: there is no room; nothing was queued.
        """
        now = time.monotonic()
        job = Job(now + self._settings.time_limit_seconds, len(requests))
        with self._changed:
            if self._closed or len(self._queue) + len(requests) > self._settings.queue_pictures:
                self._metrics.turned_away.inc()
                raise QueueFull(max(1, math.ceil(len(self._queue) * self._pace)))
            pairs = zip(models, requests, strict=True)
            self._queue += [_Waiting(job, i, model, request, now) for i, (model, request) in enumerate(pairs)]
            self._metrics.waiting.set(len(self._queue))
            self._changed.notify()
        return job

    def close(self) -> None:
        """Draw what is queued, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(self._settings.time_limit_seconds)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._draw(batch)

    def _next_batch(self) -> list[_Waiting] | None:
        """None at the end."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait()
            first = self._queue[0]
            limit = first.model.max_batch
            ready = first.arrived + self._settings.batch_wait_ms / 1000
            while len(self._queue) < limit and not self._closed and (wait := ready - time.monotonic()) > 0:
                self._changed.wait(wait)
            wanted = [each for each in self._queue if each.job.is_wanted()]
            alike = [each for each in wanted if each.kind == wanted[0].kind]
            batch = alike[: alike[0].model.max_batch] if alike else []
            self._queue = deque(each for each in wanted if each not in batch)
            self._metrics.waiting.set(len(self._queue))
            return batch

    def _draw(self, batch: Sequence[_Waiting]) -> None:
        def check() -> None:
            if not any(each.job.is_wanted() for each in batch):
                raise _Stopped

        model = batch[0].model
        started = time.monotonic()
        try:
            pictures = model.draw([each.request for each in batch], check=check)
        except _Stopped:
            self._metrics.stopped.inc(len(batch))
            return
        except Exception as error:
            for each in batch:
                each.job.fail(error)
            return
        seconds = time.monotonic() - started
        self._pace += 0.1 * (seconds / len(batch) - self._pace)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.pictures.labels(model.name).inc(len(batch))
        for each, picture in zip(batch, pictures, strict=True):
            each.job.add(each.index, picture)

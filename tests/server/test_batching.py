"""The queue: together, in order, bounded, and given up when nobody waits."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from salon.inference.model import DrawnImage
from salon.inference.request import PictureRequest, RequestError
from salon.params.serve import ServeParams
from salon.server.batching import BatchQueue, OutOfTime, QueueFull
from salon.server.metrics import ServerMetrics


class Painter:
    """Stands for a champion: notes its batches, and draws when it may."""

    def __init__(self, name: str = "painter", *, max_batch: int = 4) -> None:
        self.name = name
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.may_draw = threading.Event()
        self.may_draw.set()
        self.is_drawing = threading.Event()

    def draw(self, requests: Sequence[PictureRequest], *, check: Callable[[], None]) -> list[DrawnImage]:
        self.batches.append([request.seed for request in requests])
        self.is_drawing.set()
        while not self.may_draw.wait(0.002):
            check()
        if any(request.guidance_scale == 50 for request in requests):
            raise RequestError("guidance_scale 50 is out of range")
        return [DrawnImage(b"", request, self.name, "1", 1.0, []) for request in requests]


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def engine() -> Iterator[BatchQueue]:
    settings = ServeParams(queue_pictures=64, time_limit_seconds=0.5, batch_wait_ms=20)
    engine = BatchQueue(settings, ServerMetrics())
    yield engine
    engine.close()


def ask(*seeds: int, steps: int | None = None, scale: float | None = None) -> list[PictureRequest]:
    return [PictureRequest("an owl", seed, steps, scale) for seed in seeds]


def submit(engine: BatchQueue, painter: Painter, requests: Sequence[PictureRequest]):
    return engine.submit([painter] * len(requests), requests)  # type: ignore[list-item]


def occupy(engine: BatchQueue, painter: Painter):
    """A batch that is being drawn until `may_draw` is set."""
    painter.may_draw.clear()
    painter.is_drawing.clear()
    job = submit(engine, painter, ask(0))
    assert painter.is_drawing.wait(2)
    return job


def test_what_arrives_together_is_drawn_together_and_answered_in_order(engine: BatchQueue, painter: Painter):
    occupy(engine, painter)
    jobs = [submit(engine, painter, ask(seed)) for seed in (1, 2, 3)]
    jobs.append(submit(engine, painter, ask(4, 5, 6)))
    painter.may_draw.set()
    seeds = [[picture.request.seed for picture in job.future.result(2)] for job in jobs]
    assert seeds == [[1], [2], [3], [4, 5, 6]]
    assert painter.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_idle_engine_waits_a_moment_for_more(engine: BatchQueue, painter: Painter):
    first = submit(engine, painter, ask(1))
    second = submit(engine, painter, ask(2))
    first.future.result(2)
    second.future.result(2)
    assert painter.batches == [[1, 2]]


def test_other_settings_and_other_models_are_not_mixed(engine: BatchQueue, painter: Painter):
    other = Painter("other")
    occupy(engine, painter)
    jobs = [
        submit(engine, painter, ask(1)),
        submit(engine, painter, ask(2, steps=3)),
        submit(engine, other, ask(3)),
        submit(engine, painter, ask(4)),
    ]
    painter.may_draw.set()
    for job in jobs:
        job.future.result(2)
    assert painter.batches == [[0], [1, 4], [2]]
    assert other.batches == [[3]]


def test_full_queue_turns_away_at_once_and_queues_nothing(engine: BatchQueue, painter: Painter):
    occupy(engine, painter)
    submit(engine, painter, ask(*range(1, 61)))
    started = time.monotonic()
    with pytest.raises(QueueFull) as error:
        submit(engine, painter, ask(*range(5)))
    assert time.monotonic() - started < 0.1
    assert error.value.retry_seconds >= 1
    assert engine.waiting == 60
    fits = submit(engine, painter, ask(61))
    painter.may_draw.set()
    fits.future.result(2)


def test_request_over_its_time_limit_stops_computing(engine: BatchQueue, painter: Painter):
    job = occupy(engine, painter)
    with pytest.raises(OutOfTime):
        job.future.result(2)  # though it was never allowed to draw
    painter.may_draw.set()
    submit(engine, painter, ask(1)).future.result(2)
    assert painter.batches == [[0], [1]]


def test_request_whose_time_ran_out_in_the_queue_is_not_begun(engine: BatchQueue, painter: Painter):
    slow = Painter()
    slow.may_draw.clear()
    first, second = submit(engine, slow, ask(1)), submit(engine, painter, ask(2))
    time.sleep(0.3)
    third = submit(engine, slow, ask(3))  # of the same kind as the first, which ends before it
    for job in (first, second):
        with pytest.raises(OutOfTime):
            job.future.result(2)
    slow.may_draw.set()
    third.future.result(2)
    assert painter.batches == []


def test_batch_goes_on_while_anybody_waits_for_it(engine: BatchQueue, painter: Painter):
    occupy(engine, painter)
    gone, stays = submit(engine, painter, ask(1)), submit(engine, painter, ask(2))
    painter.may_draw.set()
    while len(painter.batches) < 1:
        time.sleep(0.001)
    gone.future.cancel()
    assert stays.future.result(2)[0].request.seed == 2


def test_one_job_may_run_out_of_time_while_others_of_its_batch_are_drawn(
    engine: BatchQueue, painter: Painter
):
    other, slow = Painter("other"), Painter()
    slow.may_draw.clear()
    occupy(engine, other)
    late = submit(engine, slow, ask(1, 2))
    time.sleep(0.3)
    in_time = submit(engine, slow, ask(3))
    other.may_draw.set()
    with pytest.raises(OutOfTime):
        late.future.result(2)
    slow.may_draw.set()
    assert len(in_time.future.result(2)) == 1
    assert slow.batches == [[1, 2, 3]]
    assert engine.is_alive


def test_what_was_cancelled_is_not_drawn(engine: BatchQueue, painter: Painter):
    running = occupy(engine, painter)
    waiting = submit(engine, painter, ask(1, 2))
    assert waiting.future.cancel()
    assert running.future.cancel()  # stops within a step, without `may_draw`
    painter.may_draw.set()
    submit(engine, painter, ask(3)).future.result(2)
    assert painter.batches == [[0], [3]]


def test_failure_of_one_batch_is_nobody_elses(engine: BatchQueue, painter: Painter):
    bad = submit(engine, painter, ask(1, scale=50))
    good = submit(engine, painter, ask(2))
    with pytest.raises(RequestError, match="guidance_scale 50"):
        bad.future.result(2)
    assert len(good.future.result(2)) == 1
    assert engine.is_alive


def test_a_change_of_champion_leaves_old_requests_to_the_old_one(engine: BatchQueue, painter: Painter):
    occupy(engine, painter)
    before = submit(engine, painter, ask(1))
    after = submit(engine, Painter("new"), ask(2))
    painter.may_draw.set()
    assert before.future.result(2)[0].method == "painter"
    assert after.future.result(2)[0].method == "new"


def test_close_answers_what_is_queued(painter: Painter):
    engine = BatchQueue(ServeParams(), ServerMetrics())
    occupy(engine, painter)
    job = submit(engine, painter, ask(1, 2))
    painter.may_draw.set()
    engine.close()
    assert len(job.future.result(0)) == 2
    with pytest.raises(QueueFull):
        submit(engine, painter, ask(3))

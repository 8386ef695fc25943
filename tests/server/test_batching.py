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
def queue() -> Iterator[BatchQueue]:
    settings = ServeParams(queue_pictures=64, time_limit_seconds=0.5, batch_wait_ms=20)
    queue = BatchQueue(settings, ServerMetrics())
    yield queue
    queue.close()


def ask(*seeds: int, steps: int | None = None, scale: float | None = None) -> list[PictureRequest]:
    return [PictureRequest("an owl", seed, steps, scale) for seed in seeds]


def submit(queue: BatchQueue, painter: Painter, requests: Sequence[PictureRequest]):
    return queue.submit([painter] * len(requests), requests)  # type: ignore[list-item]


def occupy(queue: BatchQueue, painter: Painter):
    """A batch that is being drawn until `may_draw` is set."""
    painter.may_draw.clear()
    painter.is_drawing.clear()
    job = submit(queue, painter, ask(0))
    assert painter.is_drawing.wait(2)
    return job


def test_what_arrives_together_is_drawn_together_and_answered_in_order(queue: BatchQueue, painter: Painter):
    occupy(queue, painter)
    jobs = [submit(queue, painter, ask(seed)) for seed in (1, 2, 3)]
    jobs.append(submit(queue, painter, ask(4, 5, 6)))
    painter.may_draw.set()
    seeds = [[picture.request.seed for picture in job.future.result(2)] for job in jobs]
    assert seeds == [[1], [2], [3], [4, 5, 6]]
    assert painter.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_idle_engine_waits_a_moment_for_more(queue: BatchQueue, painter: Painter):
    first = submit(queue, painter, ask(1))
    second = submit(queue, painter, ask(2))
    first.future.result(2)
    second.future.result(2)
    assert painter.batches == [[1, 2]]


def test_other_settings_and_other_models_are_not_mixed(queue: BatchQueue, painter: Painter):
    other = Painter("other")
    occupy(queue, painter)
    jobs = [
        submit(queue, painter, ask(1)),
        submit(queue, painter, ask(2, steps=3)),
        submit(queue, other, ask(3)),
        submit(queue, painter, ask(4)),
    ]
    painter.may_draw.set()
    for job in jobs:
        job.future.result(2)
    assert painter.batches == [[0], [1, 4], [2]]
    assert other.batches == [[3]]


def test_full_queue_turns_away_at_once_and_queues_nothing(queue: BatchQueue, painter: Painter):
    occupy(queue, painter)
    submit(queue, painter, ask(*range(1, 61)))
    started = time.monotonic()
    with pytest.raises(QueueFull) as error:
        submit(queue, painter, ask(*range(5)))
    assert time.monotonic() - started < 0.1
    assert error.value.retry_seconds >= 1
    assert queue.waiting == 60
    fits = submit(queue, painter, ask(61))
    painter.may_draw.set()
    fits.future.result(2)


def test_request_over_its_time_limit_stops_computing(queue: BatchQueue, painter: Painter):
    job = occupy(queue, painter)
    with pytest.raises(OutOfTime):
        job.future.result(2)  # though it was never allowed to draw
    painter.may_draw.set()
    submit(queue, painter, ask(1)).future.result(2)
    assert painter.batches == [[0], [1]]


def test_request_whose_time_ran_out_in_the_queue_is_not_begun(queue: BatchQueue, painter: Painter):
    slow = Painter()
    slow.may_draw.clear()
    first, second = submit(queue, slow, ask(1)), submit(queue, painter, ask(2))
    time.sleep(0.3)
    third = submit(queue, slow, ask(3))  # of the same kind as the first, which ends before it
    for job in (first, second):
        with pytest.raises(OutOfTime):
            job.future.result(2)
    slow.may_draw.set()
    third.future.result(2)
    assert painter.batches == []


def test_batch_goes_on_while_anybody_waits_for_it(queue: BatchQueue, painter: Painter):
    occupy(queue, painter)
    gone, stays = submit(queue, painter, ask(1)), submit(queue, painter, ask(2))
    painter.may_draw.set()
    while len(painter.batches) < 1:
        time.sleep(0.001)
    gone.future.cancel()
    assert stays.future.result(2)[0].request.seed == 2


def test_one_job_may_run_out_of_time_while_others_of_its_batch_are_drawn(queue: BatchQueue, painter: Painter):
    other, slow = Painter("other"), Painter()
    slow.may_draw.clear()
    occupy(queue, other)
    late = submit(queue, slow, ask(1, 2))
    time.sleep(0.3)
    in_time = submit(queue, slow, ask(3))
    other.may_draw.set()
    with pytest.raises(OutOfTime):
        late.future.result(2)
    slow.may_draw.set()
    assert len(in_time.future.result(2)) == 1
    assert slow.batches == [[1, 2, 3]]
    assert queue.is_alive


def test_what_was_cancelled_is_not_drawn(queue: BatchQueue, painter: Painter):
    running = occupy(queue, painter)
    waiting = submit(queue, painter, ask(1, 2))
    assert waiting.future.cancel()
    assert running.future.cancel()  # stops within a step, without `may_draw`
    painter.may_draw.set()
    submit(queue, painter, ask(3)).future.result(2)
    assert painter.batches == [[0], [3]]


def test_failure_of_one_batch_is_nobody_elses(queue: BatchQueue, painter: Painter):
    bad = submit(queue, painter, ask(1, scale=50))
    good = submit(queue, painter, ask(2))
    with pytest.raises(RequestError, match="guidance_scale 50"):
        bad.future.result(2)
    assert len(good.future.result(2)) == 1
    assert queue.is_alive


def test_a_change_of_champion_leaves_old_requests_to_the_old_one(queue: BatchQueue, painter: Painter):
    occupy(queue, painter)
    before = submit(queue, painter, ask(1))
    after = submit(queue, Painter("new"), ask(2))
    painter.may_draw.set()
    assert before.future.result(2)[0].method == "painter"
    assert after.future.result(2)[0].method == "new"


def test_close_answers_what_is_queued(painter: Painter):
    queue = BatchQueue(ServeParams(), ServerMetrics())
    occupy(queue, painter)
    job = submit(queue, painter, ask(1, 2))
    painter.may_draw.set()
    queue.close()
    assert len(job.future.result(0)) == 2
    with pytest.raises(QueueFull):
        submit(queue, painter, ask(3))

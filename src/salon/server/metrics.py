"""What Prometheus is told of a running server."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32)


class ServerMetrics:
    """The metrics of one server; each has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        self.requests = counter("salon_requests", "Scoring requests by HTTP status", ["status"])
        self.seconds = histogram("salon_request_seconds", "Time to answer a request", buckets=SECONDS)
        self.pictures = counter("salon_pictures", "Pictures drawn", ["method"])
        self.batch_size = histogram("salon_batch_pictures", "Pictures drawn together", buckets=SIZES)
        self.waiting = Gauge("salon_waiting_pictures", "Pictures in the queue", registry=registry)
        self.turned_away = counter("salon_turned_away", "Requests refused by a full queue")
        self.stopped = counter("salon_stopped_pictures", "Pictures given up while drawn")
        self.changes = counter("salon_champion_changes", "Champions taken over from the registry")
        self.ready = Gauge("salon_ready", "1 when pictures can be drawn", registry=registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

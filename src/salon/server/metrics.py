"""What Prometheus is told of a running server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32)


class ServerMetrics:
    """The metrics of one server; each has its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "salon_requests", "Scoring requests by HTTP status", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "salon_request_seconds", "Time to answer a request", buckets=SECONDS, registry=registry
        )
        self.pictures = Counter("salon_pictures", "Pictures drawn", ["method"], registry=registry)
        self.batch_size = Histogram(
            "salon_batch_pictures", "Pictures drawn together", buckets=SIZES, registry=registry
        )
        self.waiting = Gauge("salon_waiting_pictures", "Pictures in the queue", registry=registry)
        self.turned_away = Counter("salon_turned_away", "Requests refused by a full queue", registry=registry)
        self.stopped = Counter("salon_stopped_pictures", "Pictures given up while drawn", registry=registry)
        self.changes = Counter(
            "salon_champion_changes", "Champions taken over from the registry", registry=registry
        )
        self.ready = Gauge("salon_ready", "1 when pictures can be drawn", registry=registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

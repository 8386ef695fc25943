"""The champions that serve, kept in step with the registry while requests go on.

A new champion is loaded beside the old one and takes its place in one assignment; requests that came before
keep the one that they came to. What cannot be loaded does not serve, and says why; the old one goes on.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from salon.errors import SalonError
from salon.inference.bundle import read_models
from salon.inference.model import LoadedModel, ModelCache
from salon.registry.champions import Champions
from salon.server.metrics import ServerMetrics

logger = logging.getLogger(__name__)


class ServedModels:
    """Who serves. Reading is safe from any thread; one thread of its own writes."""

    def __init__(
        self,
        registry: Champions,
        metrics: ServerMetrics,
        *,
        poll_seconds: float,
        on_failure: Callable[[SalonError], None],
    ) -> None:
        """Follow the registry; `on_failure` is told where nothing could be loaded at the start."""
        self._registry = registry
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._on_failure = on_failure
        self._cache = ModelCache()
        self.serving: Mapping[str, LoadedModel] = {}
        self.loading: list[str] = []
        self.problems: dict[str, str] = {}
        """What is wrong with a method, or with the `registry`; the broken version is not tried again."""
        self.has_begun = False
        self._refused: dict[str, str] = {}  # method -> version that cannot be loaded
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the first load is over and somebody serves."""
        return self.has_begun and bool(self.serving)

    def versions(self) -> dict[str, str]:
        """The version of each method that serves."""
        return {name: model.version for name, model in self.serving.items()}

    def close(self) -> None:
        """Follow the registry no longer."""
        self._closing.set()

    def _watch(self) -> None:
        try:
            self.synchronise()
            if not self.serving:
                problems = "; ".join(self.problems.values()) or (
                    "the registry has no champion: run `salon sync`, or `make repro` first"
                )
                self._on_failure(SalonError(f"nothing can be served: {problems}"))
        except Exception as error:
            logger.exception("the champions could not be loaded")
            self._on_failure(SalonError(f"the champions could not be loaded: {error}"))
        self.has_begun = True
        self._metrics.ready.set(bool(self.serving))
        while not self._closing.wait(self._poll_seconds):
            try:
                self.synchronise()
            except Exception:
                logger.exception("the registry could not be followed")

    def synchronise(self) -> None:
        """Take over what changed in the registry since the last time."""
        try:
            champions = self._registry.now()
        except SalonError as error:
            self._note("registry", str(error))
            return
        self._note("registry", None)
        for method in self.serving.keys() - champions.keys():
            logger.warning("%s has no champion any more and is not served", method)
            self._replace(method, None)
        for method, _ in champions.items() & self.versions().items():
            self._settle(method)  # a broken version was taken back
        settled = {*self.versions().items(), *self._refused.items()}
        self.loading = [method for method, version in champions.items() if (method, version) not in settled]
        for method in list(self.loading):
            self._take(method, champions[method])
            self.loading = self.loading[1:]

    def _take(self, method: str, version: str) -> None:
        before = self.versions().get(method)
        try:
            with self._registry.files(method, version) as bundle:
                model = self._cache.load(read_models(bundle)[method], version=version)
        except (SalonError, OSError, KeyError) as error:
            self._refused[method] = version
            on = f"; version {before} goes on" if before else ""
            self._note(method, f"salon-{method} version {version} cannot serve: {error}{on}")
            return
        self._settle(method)
        self._replace(method, model)
        if before is not None:
            self._metrics.changes.inc()
        logger.info("salon-%s version %s serves%s", method, version, f", after {before}" if before else "")

    def _settle(self, method: str) -> None:
        self._refused.pop(method, None)
        self._note(method, None)

    def _replace(self, method: str, model: LoadedModel | None) -> None:
        models = {**self.serving, method: model}
        order = self._registry.methods  # the first that serves answers those who name none
        self.serving = {name: found for name in order if (found := models.get(name)) is not None}

    def _note(self, subject: str, problem: str | None) -> None:
        if problem is None:
            self.problems.pop(subject, None)
        elif problem != self.problems.get(subject):
            logger.error("%s", problem)
            self.problems[subject] = problem

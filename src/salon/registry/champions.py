"""Who is champion now, and where its files lie: all that a server asks of the registry."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from salon.errors import SalonError
from salon.params import Params
from salon.paths import Paths
from salon.registry.aliases import CHAMPION, version_at
from salon.registry.candidate import registered_name
from salon.registry.versions import download_bundle
from salon.tracking.runs import Store, open_store, sqlite_file, tracking_uri


@dataclass(frozen=True)
class Entry:
    """A champion as the registry names it."""

    method: str
    name: str
    version: str


class Champions:
    """The champions of the methods of `params.yaml`, read from the registry."""

    def __init__(self, store: Store, methods: list[str]) -> None:
        self.store = store
        self.methods = methods

    @classmethod
    def of(cls, params: Params, paths: Paths, methods: list[str]) -> "Champions":
        """Connect to the registry.

        Raises:
            SalonError: there is none, it cannot be reached, or a method is unknown.
        """
        for method in methods:
            params.method(method)
        file = sqlite_file(tracking_uri(paths))
        if file is not None and not file.is_file():
            raise SalonError(f"{file} does not exist, so that nothing is registered: run `make repro` first")
        return cls(open_store(params, paths), methods or list(params.methods))

    def now(self) -> dict[str, Entry]:
        """The champion of each method that has one.

        Raises:
            SalonError: the registry does not answer.
        """
        names = {registered_name(method): method for method in self.methods}
        found: dict[str, Entry] = {}
        try:
            for name, method in names.items():
                version = version_at(self.store.client, name, CHAMPION)
                if version is not None:
                    found[method] = Entry(method, name, str(version.version))
        except MlflowException as error:
            raise SalonError(f"the registry does not answer: {str(error).splitlines()[0][:200]}") from None
        return found

    @contextmanager
    def files(self, entry: Entry) -> Iterator[Path]:
        """The bundle of a version, to be read before the block ends; what was fetched goes with it.

        Raises:
            SalonError: its files are gone, damaged, or cannot be fetched.
        """
        version = self.store.client.get_model_version(entry.name, entry.version)
        local = self._local_bundle(version)
        if local is not None:
            yield local
            return
        folder = Path(tempfile.mkdtemp(prefix="salon-"))
        try:
            yield download_bundle(self.store, version, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _local_bundle(self, version: ModelVersion) -> Path | None:
        location = self.store.client.get_model_version_download_uri(version.name, str(version.version))
        if location.startswith("models:/"):
            location = self.store.client.get_logged_model(location.removeprefix("models:/")).artifact_location
        parsed = urlparse(location)
        if parsed.scheme not in ("", "file"):
            return None
        folder = Path(unquote(parsed.path))
        if not (folder / "MLmodel").is_file():
            raise SalonError(
                f"the files of {version.name} version {version.version} are gone: run `salon sync`"
            )
        return folder / "artifacts" / "bundle"

"""Who is champion now, and where its files lie: all that a server asks of the registry."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from salon.errors import SalonError
from salon.params import Params
from salon.paths import Paths
from salon.registry.aliases import CHAMPION, version_at
from salon.registry.candidate import registered_name
from salon.registry.versions import download_bundle, local_folder
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
        local = local_folder(self.store.client, version)
        if local is not None and not (local / "MLmodel").is_file():
            raise SalonError(f"the files of {entry.name} version {entry.version} are gone: run `salon sync`")
        if local is not None:
            yield local / "artifacts" / "bundle"
            return
        with tempfile.TemporaryDirectory(prefix="salon-", ignore_cleanup_errors=True) as folder:
            yield download_bundle(self.store, version, Path(folder))

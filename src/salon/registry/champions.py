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
from salon.registry.versions import download_bundle, has_files, local_folder
from salon.tracking.runs import Store, open_store, sqlite_file, tracking_uri


def serving_order(params: Params) -> list[str]:
    """The methods as servers name them; the first answers requests that name none."""
    return sorted(params.methods, key=lambda method: method != params.serve.default_method)


@dataclass(frozen=True)
class Champions:
    """The champions of methods, in this order, read from the registry."""

    store: Store
    methods: list[str]

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
        chosen = [method for method in serving_order(params) if not methods or method in methods]
        return cls(open_store(params, paths), chosen)

    def now(self) -> dict[str, str]:
        """The version that is champion of each method that has one.

        Raises:
            SalonError: the registry does not answer.
        """
        try:
            found = {
                method: version_at(self.store.client, registered_name(method), CHAMPION)
                for method in self.methods
            }
        except MlflowException as error:
            raise SalonError(f"the registry does not answer: {str(error).splitlines()[0][:200]}") from None
        return {method: str(version.version) for method, version in found.items() if version is not None}

    @contextmanager
    def files(self, method: str, number: str) -> Iterator[Path]:
        """The bundle of a method's version, to be read before the block ends; what was fetched goes with it.

        Raises:
            SalonError: its files are gone, damaged, or cannot be fetched.
        """
        version = self.store.client.get_model_version(registered_name(method), number)
        if not has_files(self.store.client, version):
            raise SalonError(f"the files of {version.name} version {number} are gone: run `salon sync`")
        if local := local_folder(self.store.client, version):
            yield local / "artifacts" / "bundle"
            return
        with tempfile.TemporaryDirectory(prefix="salon-", ignore_cleanup_errors=True) as folder:
            yield download_bundle(self.store, version, Path(folder))

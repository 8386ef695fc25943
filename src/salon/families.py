"""Families: one module of a package each, found by its name, so that adding one is adding a file."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from salon.errors import SalonError
from salon.params import parse_section

T = TypeVar("T")


@dataclass(frozen=True)
class Families(Generic[T]):
    """The classes of the modules of one package that are a `base`."""

    package: str
    base: type[T]
    what: str
    """What one is, in errors; the section of `params.yaml` is called so, too, with an s."""
    apart: Collection[str]
    """Modules of the package that are no family."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Families as the release before names them -> their names now."""

    def names(self) -> list[str]:
        """Names of all families."""
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted({module.name for module in modules} - set(self.apart))

    def find(self, family: str) -> type[T]:
        """The one class of the module called `family`.

        Raises:
            SalonError: there is no such module.
        """
        family = self.renamed.get(family, family)
        if family not in self.names():
            raise SalonError(f"unknown {self.what} family {family!r}: one of {self.names()}")
        module = importlib.import_module(f"{self.package}.{family}")
        (found,) = (
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, self.base) and value.__module__ == module.__name__
        )
        return found

    def read_config(self, name: str, raw: Mapping[str, Any]) -> tuple[type[T], Any]:
        """The class and the checked settings of what `params.yaml` calls `name`.

        Raises:
            SalonError: unknown family, unknown key, or a value out of range.
        """
        asked: str = raw.get("family") or name
        if raw.get("family") in self.renamed:
            told = f"params.yaml: {self.what}s.{name}.family {asked} is called {self.renamed[asked]} now"
            print(f"salon: {told}; both are read for one release", file=sys.stderr)
        found: Any = self.find(asked)
        return found, parse_section(found.config_class, dict(raw), where=f"params.yaml: {self.what}s.{name}")


def family_of(value: type) -> str:
    """The family that `Families.find` finds a class by."""
    return value.__module__.rpartition(".")[2]

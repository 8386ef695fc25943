"""Families: one module of a package each, found by its name, so that adding one is adding a file."""

import importlib
import inspect
import pkgutil
from collections.abc import Collection
from types import ModuleType
from typing import TypeVar

from salon.errors import SalonError

T = TypeVar("T")


def family_names(package: ModuleType, *, apart: Collection[str]) -> list[str]:
    """Names of the modules of `package`, those `apart` excepted."""
    return sorted({module.name for module in pkgutil.iter_modules(package.__path__)} - set(apart))


def find_family(
    package: ModuleType, family: str, base: type[T], *, what: str, apart: Collection[str]
) -> type[T]:
    """The one class of module `family` of `package` that is a `base`.

    Raises:
        SalonError: there is no such module.
    """
    names = family_names(package, apart=apart)
    if family not in names:
        raise SalonError(f"unknown {what} family {family!r}: one of {names}")
    module = importlib.import_module(f"{package.__name__}.{family}")
    (found,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    )
    return found


def family_of(value: type) -> str:
    """The family that `find_family` finds a class by."""
    return value.__module__.rpartition(".")[2]

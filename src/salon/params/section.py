"""What every section of `params.yaml` is made of: strict about keys, with the ranges that several share."""

import difflib
import sys
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from salon.errors import SalonError

S = TypeVar("S", bound=BaseModel)


def _ascending(limits: tuple[Any, Any]) -> tuple[Any, Any]:
    if limits[0] > limits[1]:
        raise ValueError(f"the lower limit {limits[0]} is above the upper limit {limits[1]}")
    return limits


Fraction = Annotated[float, Field(ge=0, le=1)]
IntRange = Annotated[tuple[int, int], AfterValidator(_ascending)]
FloatRange = Annotated[tuple[float, float], AfterValidator(_ascending)]


class Section(BaseModel):
    """Base of every section: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of an earlier release that are still read -> their names now."""
    dropped: ClassVar[Mapping[str, str]] = {}
    """Keys of an earlier release that mean nothing any more -> what does, in a few words."""


def parse_section(section: type[S], raw: Any, *, where: str) -> S:
    """Validate `raw` as `section`; a failure becomes one SalonError that lists every problem."""
    if not isinstance(raw, dict):
        raise SalonError(f"{where}: expected a mapping, found {type(raw).__name__}")
    raw = deepcopy(raw)
    for sentence in rename_keys(section, raw, where=where):
        print(f"salon: {sentence}", file=sys.stderr)
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(section, problem) for problem in error.errors()]
        raise SalonError(f"{where}: " + "; ".join(problems)) from None


def rename_keys(section: type[BaseModel], raw: Any, *, where: str, inside: str = "") -> list[str]:
    """Give the keys of an earlier release their names of now, or leave them out, in place; a sentence each.

    Raises:
        SalonError: a key is given under both names.
    """
    sentences = []
    renamed: Mapping[str, str] = getattr(section, "renamed", {})
    for key, instead in getattr(section, "dropped", {}).items():
        if key in raw:
            del raw[key]
            sentences.append(f"{where}: {inside}{key} means nothing any more: {instead}")
    for old in (key for key in renamed if key in raw):
        told = f"{where}: {inside}{old} is called {inside}{renamed[old]} now"
        if renamed[old] in raw:
            raise SalonError(f"{told}: give one of the two")
        sentences.append(f"{told}; both are read for one release")
    if sentences:
        items = [(renamed.get(key, key), value) for key, value in raw.items()]
        raw.clear()
        raw.update(items)
    for name, field in section.model_fields.items():
        key = field.alias or name
        model = _section_of(field.annotation)
        if model and isinstance(raw.get(key), dict):
            sentences += rename_keys(model, raw[key], where=where, inside=f"{inside}{key}.")
    return sentences


def _describe(section: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    name = ".".join(location)
    if problem["type"] != "extra_forbidden":
        return f"{name or 'top level'}: {problem['msg']}"
    known = _known_keys(section, location[:-1])
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(known))}"
    return f"unknown key {name!r}: {hint}"


def _known_keys(section: type[BaseModel], location: list[str]) -> list[str]:
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    if not location:
        return list(fields)
    inner = _section_of(fields[location[0]].annotation) if location[0] in fields else None
    return _known_keys(inner, location[1:]) if inner else []


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, if it does."""
    annotation = next((option for option in get_args(annotation) if option is not type(None)), annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None

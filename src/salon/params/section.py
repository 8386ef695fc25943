"""What every section of `params.yaml` is made of: strict about keys, with the ranges that several share."""

import difflib
from typing import Annotated, Any, TypeVar, get_args

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


def parse_section(section: type[S], raw: Any, *, where: str) -> S:
    """Validate `raw` as `section`; a failure becomes one SalonError that lists every problem."""
    if not isinstance(raw, dict):
        raise SalonError(f"{where}: expected a mapping, found {type(raw).__name__}")
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(section, problem) for problem in error.errors()]
        raise SalonError(f"{where}: " + "; ".join(problems)) from None


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
    model = section
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        annotation = fields[part].annotation if part in fields else None
        annotation = next((option for option in get_args(annotation) if option is not type(None)), annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]

"""What every section of `params.yaml` is made of: strict about keys, with the ranges that several share."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


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

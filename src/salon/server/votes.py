"""A ballot of the gallery, and what a model has scored. Who keeps count is `salon.server.vote_book`."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]


class Ballot(BaseModel):
    """One visitor's choice among pictures of one prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ballot: Name
    """Chosen at random by the page: the same ballot sent twice counts once."""
    winner: Name
    """Method whose pictures were called the best."""
    versions: dict[Name, Name] = Field(min_length=2, max_length=64)
    """Version of each method that was shown."""

    @model_validator(mode="after")
    def _winner_was_shown(self) -> "Ballot":
        if self.winner not in self.versions:
            raise ValueError("the winner was not among the methods shown")
        return self


@dataclass(frozen=True)
class Score:
    """How one version fared with all visitors so far."""

    method: str
    version: str
    votes: int
    shown: int


class BallotBox(Protocol):
    """Whoever counts."""

    def cast(self, ballot: Ballot) -> list[Score]:
        """Count a ballot, at once, and return the scores of the versions on it."""

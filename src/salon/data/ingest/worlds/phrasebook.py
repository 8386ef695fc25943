"""What a source that writes its own captions calls things, and whether a caption keeps to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class CaptionBook(Protocol):
    """Knows how the captions of a source speak."""

    def disagreement(self, caption: str, *, lang: str, attributes: Mapping[str, str]) -> str | None:
        """Why `caption` does not say what `attributes` do in language `lang`; `None` when it does."""


@dataclass(frozen=True)
class PhraseBook:
    """The names that captions use for attribute values."""

    names: Mapping[str, Mapping[str, Mapping[str, str]]]
    """Language tag -> attribute -> value -> how a caption names it."""

    def disagreement(self, caption: str, *, lang: str, attributes: Mapping[str, str]) -> str | None:
        """Why `caption` does not name every one of `attributes` in language `lang`; `None` when it does."""
        if lang not in self.names:
            return f"the phrase book has no language {lang!r}"
        known = self.names[lang]
        absent = sorted(set(known) - set(attributes))
        if absent:
            return f"the row has no attribute {absent[0]!r}"
        claims: list[tuple[str, str, str]] = []
        for attribute, value in sorted(attributes.items()):
            name = known.get(attribute, {}).get(value)
            if name is None:
                return f"the phrase book has no {attribute} {value!r}"
            claims.append((name, attribute, value))
        rest = caption
        # the longest name first: a "green apple" must not lend its colour to the background
        for name, attribute, value in sorted(claims, key=lambda claim: (-len(claim[0]), claim)):
            for other in known[attribute].values():
                if name != other and _has(other, name) and _has(rest, other):
                    return f"the caption names {attribute} {other!r}, but the row claims {value!r}"
            if not _has(rest, name):
                return f"the caption does not name {attribute} {value!r} (in {lang}: {name!r})"
            rest = _pattern(name).sub(" ", rest, count=1)
        return None


def _has(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as whole words."""
    return name.casefold() in text.casefold() and _pattern(name).search(text) is not None


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)

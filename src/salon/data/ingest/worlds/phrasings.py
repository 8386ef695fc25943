"""In which of its source's phrasings a caption asks for a scene.

The shards do not say: a column for what one source knows would be empty in all others. A caption that its
source wrote gives it away, since the attributes are known and the words between them are the phrasing.
"""

import re
from collections.abc import Mapping
from functools import cache

from salon.data.ingest.worlds.scenes import ATTRIBUTES, PHRASINGS


def phrasing_of(caption: str, *, lang: str, attributes: Mapping[str, str]) -> str | None:
    """`en-1` for the first English phrasing of the scenes, and so on; `None` for anybody else's caption."""
    if not set(ATTRIBUTES) <= attributes.keys():
        return None
    fitting = [
        (len(literal), -number)
        for number, (pattern, literal) in enumerate(_patterns(lang), start=1)
        if pattern.fullmatch(caption)
    ]
    # the one that says most itself: a name with a comma may fit another's gap as well
    return f"{lang}-{-max(fitting)[1]}" if fitting else None


def wording_of(phrasing: str) -> str | None:
    """The template behind `en-1`, `None` where there is none."""
    lang, _, number = phrasing.rpartition("-")
    templates = PHRASINGS.get(lang, ())
    if not number.isdigit() or not 1 <= int(number) <= len(templates):
        return None
    return templates[int(number) - 1]


@cache
def _patterns(lang: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Each phrasing as a pattern, and what it says whatever the scene."""
    found = []
    for template in PHRASINGS.get(lang, ()):
        escaped = re.escape(template)
        pattern = re.sub(r"\\\{(a_)?\w+\\\}", lambda gap: "an? .+" if gap[1] else ".+", escaped)
        found.append((re.compile(pattern), re.sub(r"\{\w+\}", "", template)))
    return tuple(found)

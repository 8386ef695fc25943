"""Links lead somewhere, and the Russian page says what the English one says."""

import re
from pathlib import Path

import pytest

from pages import REPOSITORY, commands, pages

RUSSIAN = REPOSITORY / "README.ru.md"
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ALL = [*pages(), RUSSIAN, REPOSITORY / "CHANGELOG.md", REPOSITORY / "data" / "README.md"]
INDEX = REPOSITORY / "docs" / "README.md"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith(("http://", "https://")) or (page.parent / target).exists(), target


def test_the_index_names_every_page() -> None:
    named = set(LINK.findall(INDEX.read_text(encoding="utf-8")))
    assert {page.name for page in INDEX.parent.glob("*.md") if page != INDEX} <= named


def test_both_languages_name_the_same_commands_and_figures() -> None:
    english, russian = (path.read_text(encoding="utf-8") for path in (REPOSITORY / "README.md", RUSSIAN))
    assert commands(russian) == commands(english)
    assert table_numbers(russian) == table_numbers(english)


def table_numbers(text: str) -> list[list[str]]:
    """Every number of every row of a table; a comma is a point in Russian."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[number.replace(",", ".") for number in re.findall(r"\d+(?:[.,]\d+)?", row)] for row in rows]

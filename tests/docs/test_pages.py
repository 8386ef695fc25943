"""Links lead somewhere, and the Russian page says what the English one says."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from pages import REPOSITORY, commands, pages

RUSSIAN = REPOSITORY / "README.ru.md"
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ALL = [*pages(), RUSSIAN, REPOSITORY / "CHANGELOG.md", REPOSITORY / "data" / "README.md"]
INDEX = REPOSITORY / "docs" / "README.md"
CODE = [*pages(), RUSSIAN, REPOSITORY / "benchmarks" / "README.md", REPOSITORY / "data" / "README.md"]


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


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", RUSSIAN], ids=lambda page: page.name)
def test_the_tree_shows_every_room(page: Path) -> None:
    package = REPOSITORY / "src" / "salon"
    shown, above = set(), ""
    tree = page.read_text(encoding="utf-8").partition("\nsrc/salon/\n")[2].partition("\nnotebooks/")[0]
    for indent, name in re.findall(r"^( +)(\S+/) ", tree, re.MULTILINE):
        above = above if len(indent) > 2 else ""
        shown.add(f"{above}{name}".rstrip("/"))
        above = above or name
    rooms = {path.parent.relative_to(package).as_posix() for path in package.rglob("__init__.py")} - {"."}
    assert shown == rooms - {"data/ingest/sources", "data/ingest/worlds"}
    assert {"sources/", "worlds/"} <= set(re.findall(r"(\w+/)", tree))


@pytest.mark.parametrize("page", CODE, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_code_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/.-])((?:src/salon|tests|benchmarks|notebooks|profiles)/[\w./-]*\w)", text)
    assert [path for path in paths if not (REPOSITORY / path).exists()] == (
        ["src/salon/methods/ridge.py"] if page.name == "add-a-method.md" else []  # which its reader writes
    )
    for module in re.findall(r"\bsalon(?:\.[a-z_]+)+\b", text):
        assert find_spec(module), module


def test_what_contributing_names_is_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    roots = (REPOSITORY, REPOSITORY / "src" / "salon")
    named = re.findall(r"`([\w./]+/[\w.]*)`", text)
    assert len(named) > 30
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []
    source = "\n".join(path.read_text(encoding="utf-8") for path in roots[1].rglob("*.py"))
    classes = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`", text))
    assert {name for name in classes if f"\nclass {name}" not in source} == set()


def table_numbers(text: str) -> list[list[str]]:
    """Every number of every row of a table; a comma is a point in Russian."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[number.replace(",", ".") for number in re.findall(r"\d+(?:[.,]\d+)?", row)] for row in rows]

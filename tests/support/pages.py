"""What the pages of this repository tell a reader to type: fenced blocks, and commands within the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
PROGRAMS = (
    "curl",
    "dvc",
    "git",
    "jupyter",
    "make",
    "mlflow",
    "pip",
    "psql",
    "python",
    "salon",
    "source",
    "torchrun",
)
CALL = re.compile(rf"(?:\S*/)?(?:{'|'.join(PROGRAMS)}) +\S")
SHELL = re.compile(r"export \w+=|unset \w+")


@dataclass(frozen=True)
class Step:
    """One thing that a page asks its reader to do."""

    kind: str
    """`command`; `mention`, a command in a sentence; or `settings`, YAML that belongs into params.yaml."""
    text: str


def pages() -> list[Path]:
    """In the order in which somebody new reads them; translations apart."""
    docs = sorted((REPOSITORY / "docs").rglob("*.md"))
    index = REPOSITORY / "docs" / "README.md"
    return [
        REPOSITORY / "README.md",
        index,
        *(page for page in docs if page != index),
        REPOSITORY / "CONTRIBUTING.md",
    ]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for name, body in FENCE.findall(text) if name == language]


def steps(text: str) -> Iterator[Step]:
    """All that a page asks for, in its order."""
    end = 0
    for fence in FENCE.finditer(text):
        yield from _inline(text[end : fence.start()])
        end = fence.end()
        language, body = fence.groups()
        if language == "console":
            yield from (Step("command", command) for command in _console(body))
        elif language == "yaml" and body.startswith("# params.yaml\n"):
            yield Step("settings", body)
    yield from _inline(text[end:])


def commands(text: str) -> list[str]:
    """The commands of a page, in its order, mentioned ones included."""
    return [step.text for step in steps(text) if step.kind in ("command", "mention")]


def _inline(text: str) -> Iterator[Step]:
    for span in INLINE.findall(text):
        if CALL.match(span) or SHELL.match(span):
            yield Step("mention", span)


def _console(body: str) -> list[str]:
    lines = body.replace("\\\n", " ").splitlines()
    return [re.sub(r" +", " ", line.strip()) for line in lines if line.strip() and not line.startswith("#")]

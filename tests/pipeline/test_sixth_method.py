"""A new method is one file and one entry in `params.yaml`, as the page says, and everything else follows."""

import re
from collections.abc import Iterator

import pytest

from pages import blocks
from pipeline_clone import REPOSITORY, Clone
from salon.files import read_json

pytestmark = pytest.mark.pipeline

PAGE = (REPOSITORY / "docs" / "add-a-method.md").read_text(encoding="utf-8")
(RIDGE,) = blocks(PAGE, "python")
(ENTRY,) = blocks(PAGE, "yaml")


@pytest.fixture
def sixth(clone: Clone) -> Iterator[Clone]:
    """The clone with the file and the entry of the page, and a budget that a regression can spend."""
    before = clone.paths.params.read_text(encoding="utf-8")
    source = clone.root / "src/salon/methods/ridge.py"
    shared_flops = read_json(clone.paths.clip_metrics)["cost"]["train_flops"]
    smaller = re.sub(r"(?m)^( *train_flops: ).*$", rf"\g<1>{shared_flops + 5e9}", before)
    try:
        source.write_text(RIDGE, encoding="utf-8")
        entry = ENTRY[ENTRY.index("methods:\n") :]
        clone.paths.params.write_text(smaller.replace("methods:\n", entry, 1), encoding="utf-8")
        yield clone
    finally:
        source.unlink(missing_ok=True)
        clone.paths.params.write_text(before, encoding="utf-8")


def test_one_file_and_one_entry_make_a_sixth_method(sixth: Clone) -> None:
    output = sixth.run("dvc", "repro", "register@ridge")
    stages = re.findall(r"Running stage '([^']+)'", output)
    assert stages == ["train@ridge", "select@ridge", "evaluate@ridge", "register@ridge"]
    assert 0 <= read_json(sixth.paths.metrics("ridge"))["test"]["alignment"]["all"]["value"] <= 1
    assert read_json(sixth.paths.registration("ridge"))["alias"] == "champion"
    assert "salon-ridge: in step" in sixth.run("salon", "sync")


def test_it_keeps_the_contract(sixth: Clone) -> None:
    output = sixth.run("pytest", "-p", "no:cacheprovider", "tests/methods/test_contract.py", "-k", "ridge")
    assert re.search(r"\d+ passed", output)

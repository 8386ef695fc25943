"""What docs/captions.md says is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from own_pictures import own_params, write_lines, write_pictures
from salon.data.ingest.quarantine import Reason
from salon.params import load_params
from salon.params.sources import SOURCES, CaptionedParams, ColumnParams, is_world
from tiny import REPOSITORY

PAGE = (REPOSITORY / "docs" / "captions.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("source: ")[1].split()[0])
def test_examples_are_valid(example, tmp_path):
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw | yaml.safe_load(example)), encoding="utf-8")
    assert isinstance(load_params(tmp_path / "params.yaml").ingest.settings, CaptionedParams)


def test_every_source_has_an_example_on_the_page_and_in_its_module():
    for source in SOURCES:
        if is_world(source):
            continue
        assert f"source: {source}\n" in PAGE
        module = REPOSITORY / "src" / "salon" / "data" / "ingest" / "sources" / f"{source}.py"
        assert f"source: {source}\n" in module.read_text(encoding="utf-8").split('"""')[1]


def test_every_reason_is_explained():
    explained = set(re.findall(r"`([a-z_]+)`", PAGE.partition("| reason |")[2]))
    assert {reason.value for reason in Reason} <= explained


def test_settings_on_the_page_exist():
    named = re.findall(
        r"^\| (`.*?) \|", PAGE.partition("| setting | says |")[2].partition("## What")[0], re.M
    )
    known = set(CaptionedParams.model_fields) | {f"columns: {name}" for name in ColumnParams.model_fields}
    assert {name for cell in named for name in re.findall(r"`(.*?)`", cell)} <= known
    assert len(named) >= 8


def test_commands_run(tmp_path):
    names = write_pictures(tmp_path / "drawings", 12)
    (tmp_path / "drawings" / names[0]).write_bytes(b"garbage")
    write_lines(
        tmp_path / "drawings" / "metadata.jsonl", [{"file_name": n, "text": f"this is {n}"} for n in names]
    )
    own_params(tmp_path, "imagefolder", tmp_path / "drawings")
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    raw["validate"]["min_rows"] = 1
    raw["ingest"]["imagefolder"]["splits"] = {"val": 0.3, "test": 0.3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    commands = [
        line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
    ]
    assert commands[:2] == ["salon ingest", "salon validate"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "not_a_picture" in done.stdout

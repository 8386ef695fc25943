"""Does a profile hold together? `python benchmarks/profiles.py scenes2 emoji64`

Runs every stage before evaluation on this machine with the profile's own networks, picture size and settings,
but with few pictures, batches of two and two steps of each training.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import before_torch  # noqa: F401
import yaml

from salon.files import read_json
from salon.params import load_params
from salon.params.profiles import lay_over
from salon.paths import Paths
from salon.stages import codec, ingest, scorer, train, validate
from salon.stages import train_clip as clip

ROOT = Path(__file__).parents[1]
STEPS = BATCH = 2
# enough for every pair of concepts, and for captions made of the words of others
PICTURES = {"train": 4000, "val": 120, "test": 120, "novel": 40}


def shrink(raw: dict[str, Any]) -> None:
    """Fewer pictures and steps, smaller batches; the networks stay as they are."""
    raw["ingest"]["path"] = str(ROOT / raw["ingest"]["path"])
    raw["ingest"][raw["ingest"]["source"]]["pictures"] = PICTURES
    raw["validate"] |= {"max_attribute_imbalance": 100.0, "min_rows": 30}
    raw["scorer"] |= {"max_steps": STEPS, "min_accuracy": 0.0}
    for section in (raw["scorer"], raw["scorer"]["retriever"], raw["clip"], *raw["methods"].values()):
        section["batch_size"] = 8 * BATCH if section in (raw["scorer"], raw["scorer"]["retriever"]) else BATCH
    raw["scorer"]["retriever"]["max_steps"] = raw["clip"]["max_steps"] = STEPS
    for section in raw["codecs"].values():
        section |= {"max_steps": STEPS, "batch_size": BATCH, "min_accuracy": {}}
    raw["training"] |= {"accelerator": "cpu", "grids": 1}


def run_profile(name: str, folder: Path) -> None:
    """Run the stages in `folder`; one line for each."""
    text, _ = lay_over(Paths(ROOT), name)
    raw = yaml.safe_load(text)
    shrink(raw)
    paths = Paths(folder)
    paths.params.write_text(yaml.safe_dump(raw, allow_unicode=True, sort_keys=False), encoding="utf-8")
    pixels = ROOT / "models" / "codecs" / "pixels" / "config.json"
    paths.codec("pixels").mkdir(parents=True)
    (paths.codec("pixels") / "config.json").write_bytes(pixels.read_bytes())
    params = load_params(paths.params)
    assert params.ingest.is_world
    stages: dict[str, Callable[[], None]] = {
        "ingest": partial(ingest.run, params, paths),
        "validate": partial(validate.run, params, paths),
        "scorer": partial(scorer.run, params, paths),
        "train_clip": partial(clip.run, params, paths),
        **{f"codec@{key}": partial(codec.run, params, paths, key) for key in params.codecs},
        **{f"train@{key}": partial(train.run, params, paths, key) for key in params.methods},
    }
    train.steps_within = lambda *_, **__: STEPS  # type: ignore[assignment]
    for stage, run in stages.items():
        started = time.perf_counter()
        run()
        print(
            f"{name}: {stage}: {time.perf_counter() - started:.0f} s{parameters_of(stage, paths)}", flush=True
        )


def parameters_of(stage: str, paths: Paths) -> str:
    """Of the networks that the stage trained."""
    kind, _, key = stage.partition("@")
    if kind == "train_clip":
        own = read_json(paths.clip_metrics)["cost"]
    elif kind == "codec":
        own = read_json(paths.codec(key) / "training.json")["own"]
    elif kind == "train":
        own = read_json(paths.method(key) / "training.json")["own"]
    else:
        return ""
    return f"; {own['parameters'] / 1e6:.1f} M parameters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="+")
    names = parser.parse_args().profiles
    if len(names) > 1:  # a process for each: the store of one training is that of all later ones
        runs = [subprocess.run([sys.executable, __file__, name], check=False) for name in names]
        sys.exit(max(run.returncode for run in runs))
    with tempfile.TemporaryDirectory(prefix=f"salon-{names[0]}-") as folder:
        run_profile(names[0], Path(folder))


if __name__ == "__main__":
    main()

"""The installed package is the code: weights of other code do not load, and no version runs another's."""

import base64
import io
import json
import pickle
import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from five_methods import METHODS, write_bundles
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.inference.bundle import merge_bundles, read_bundle, read_models, write_manifest
from salon.inference.mlflow_model import ServedModel
from salon.inference.model import ModelCache, add_golden_samples
from salon.inference.request import PictureRequest
from salon.methods.diffusion import Diffusion


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = write_bundles(tmp_path_factory.mktemp("five"))
    for bundle in found.values():
        add_golden_samples(bundle)
    return found


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["diffusion"], tmp_path / "bundle"))


def load(bundle: Path, name: str = "diffusion"):
    return ModelCache().load(read_models(bundle)[name], version="3")


def pixels(loaded) -> np.ndarray:
    (picture,) = loaded.draw([PictureRequest("an owl", 7, None, None)])
    return np.asarray(Image.open(io.BytesIO(picture.png))).astype(int)


def change_config(bundle: Path, **settings: object) -> None:
    path = bundle / "method" / "config.json"
    description = read_json(path)
    write_json(path, {**description, "config": {**description["config"], **settings}})
    write_manifest(bundle, description_of(bundle))


def description_of(bundle: Path) -> dict:
    return {key: value for key, value in read_json(bundle / "manifest.json").items() if key != "files"}


def test_two_versions_that_differ_draw_side_by_side_what_they_draw_alone(bundle: Path, tmp_path: Path):
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    (other / "probes.json").unlink()
    change_config(other, guidance_scale=4.0, num_inference_steps=5)
    add_golden_samples(other)
    first_alone, other_alone = pixels(load(bundle)), pixels(load(other))
    assert np.abs(first_alone - other_alone).max() > 3
    loader = ModelCache()
    first = loader.load(read_models(bundle)["diffusion"], version="1")
    second = loader.load(read_models(other)["diffusion"], version="2")
    assert (pixels(first) == first_alone).all()
    assert (pixels(second) == other_alone).all()
    assert (pixels(first) == first_alone).all()


def test_code_that_draws_something_else_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Same names, same shapes, another meaning: nothing but the pictures shows it."""
    predict = Diffusion.predict
    monkeypatch.setattr(
        Diffusion, "predict", lambda self, x, sigma, text: 0.5 * predict(self, x, sigma, text) + 0.5
    )
    with pytest.raises(SalonError, match="version 3 does not draw what it drew when it was registered"):
        load(bundle)


def test_code_that_draws_the_same_is_welcome(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Rounding otherwise, as another processor does, is no reason to refuse."""
    sample = Diffusion.sample
    monkeypatch.setattr(
        Diffusion, "sample", lambda self, *args, **options: sample(self, *args, **options) + 1e-3
    )
    assert load(bundle).name == "diffusion"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"an_option_of_tomorrow": 1}, "an_option_of_tomorrow"), ({"channels": [16, 24]}, "Error")],
)
def test_weights_of_other_code_are_refused_with_one_sentence(
    bundle: Path, settings: dict[str, object], reason: str
):
    change_config(bundle, **settings)
    with pytest.raises(SalonError, match="version 3 is of other code than the installed package") as error:
        load(bundle)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_the_commit_to_install_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    write_manifest(bundle, {**description_of(bundle), "git_commit": "0123456789abcdef"})
    monkeypatch.setattr(Diffusion, "predict", lambda self, x, sigma, text: -x)
    with pytest.raises(SalonError, match="install the salon at commit 0123456789ab"):
        load(bundle)


@pytest.mark.parametrize("name", ["method/model.pkl", "clip/text/pytorch_model.bin", "codec/hook.py"])
def test_what_could_run_code_is_refused_though_the_manifest_names_it(bundle: Path, name: str):
    """A pickle that would leave a mark if anybody read it."""
    mark = bundle / "mark"

    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (mark,)

    (bundle / name).write_bytes(pickle.dumps(Trap()))
    write_manifest(bundle, description_of(bundle))
    with pytest.raises(SalonError, match="only safetensors and plain text are loaded"):
        load(bundle)
    assert not mark.exists()


@pytest.fixture(scope="module")
def combined(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("combined") / "bundle"
    versions = {name: str(number) for number, name in enumerate(bundles, start=1)}
    merge_bundles(folder, list(bundles.values()), versions=versions, card="# all\n")
    return folder


def test_joined_bundle_stores_shared_parts_once(bundles: dict[str, Path], combined: Path):
    assert len(list(combined.glob("clip-*"))) == 1
    assert len(list(combined.glob("codec-*"))) == 3
    packages = read_models(combined)
    assert list(packages) == list(METHODS)
    for name, package in packages.items():
        (alone,) = read_models(bundles[name]).values()
        assert package.digests == alone.digests
    (combined / "more.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SalonError, match=r"more\.json differ"):
        read_bundle(combined)
    (combined / "more.json").unlink()


def test_combined_bundle_loads_lazily_and_picks_by_method(bundles: dict[str, Path], combined: Path):
    model = ServedModel()
    model.load_context(mlflow.pyfunc.PythonModelContext({"bundle": str(combined)}, {}))
    assert model._models == {}
    rows = pd.DataFrame({"prompt": ["an owl", "a rocket"], "method": ["gan", "dalle"], "seed": [1, 2]})
    answers = model.predict(None, rows).to_dict("records")
    assert [(row["method"], row["model_version"]) for row in answers] == [("gan", "1"), ("dalle", "5")]
    assert set(model._models) == {"gan", "dalle"}
    everybody = model.predict(None, pd.DataFrame({"prompt": ["an owl"]}), {"method": "all", "seed": 1})
    assert list(everybody["method"]) == list(METHODS)
    assert everybody["image_png_base64"][0] == answers[0]["image_png_base64"]
    alone = load(bundles["dalle"], "dalle").draw([PictureRequest("a rocket", 2, None, None)])
    drawn = Image.open(io.BytesIO(base64.b64decode(answers[1]["image_png_base64"])))
    assert (np.asarray(drawn) == np.asarray(Image.open(io.BytesIO(alone[0].png)))).all()


def test_probes_are_small_and_say_what_was_asked(bundle: Path):
    record = json.loads((bundle / "probes.json").read_text(encoding="utf-8"))
    assert len(record["pictures"]) == len(record["probes"]) == 3
    assert (bundle / "probes.json").stat().st_size < 50_000

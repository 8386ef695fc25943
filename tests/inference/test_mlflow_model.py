"""The registered model, loaded as MLflow loads it."""

import base64
import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from salon.errors import SalonError
from salon.inference.bundle import read_bundle
from salon.inference.request import RequestError
from workspaces import NAME, Workspace


@pytest.fixture(scope="module")
def folder(registered_world: Workspace) -> Path:
    (found,) = (registered_world.root / "mlartifacts" / "models").glob("*/artifacts")
    return found


@pytest.fixture(scope="module")
def model(folder: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(folder))


def draw(model: mlflow.pyfunc.PyFuncModel, *rows: dict, **params: object) -> list[dict]:
    return model.predict(pd.DataFrame(list(rows)), params=params).to_dict("records")


def pixels(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(row["image_png_base64"])))).astype(int)


def test_picture_says_where_it_comes_from(model: mlflow.pyfunc.PyFuncModel):
    (row,) = draw(model, {"prompt": "сова на полосатом фоне", "seed": 7, "num_inference_steps": 3})
    picture = Image.open(io.BytesIO(base64.b64decode(row["image_png_base64"])))
    assert picture.size == (32, 32)
    assert picture.info["prompt"] == "сова на полосатом фоне"
    assert picture.info["seed"] == str(row["seed"]) == "7"
    assert picture.info["method"] == row["method"] == NAME
    assert picture.info["model_version"] == row["model_version"]
    assert picture.info["num_inference_steps"] == "3"
    assert picture.info["Source"] == "AI-generated"
    assert picture.info["Software"].startswith("salon ")
    assert len(picture.info["data_sha256"]) == 64
    assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]


def test_same_seed_same_bytes_other_seed_or_prompt_other_picture(model: mlflow.pyfunc.PyFuncModel):
    (first,) = draw(model, {"prompt": "an owl", "seed": 7})
    (again,) = draw(model, {"prompt": "an owl"}, seed=7)
    assert first["image_png_base64"] == again["image_png_base64"]
    assert "\n" not in first["image_png_base64"]
    (other_seed,) = draw(model, {"prompt": "an owl", "seed": 8})
    (other_prompt,) = draw(model, {"prompt": "a pizza", "seed": 7})
    assert np.abs(pixels(first) - pixels(other_seed)).max() > 3
    assert np.abs(pixels(first) - pixels(other_prompt)).max() > 0


def test_reported_seed_draws_the_picture_again(model: mlflow.pyfunc.PyFuncModel):
    (random,) = draw(model, {"prompt": "an owl"})
    (again,) = draw(model, {"prompt": "an owl", "seed": random["seed"]})
    assert random["image_png_base64"] == again["image_png_base64"]


def test_picture_does_not_depend_on_its_batch(model: mlflow.pyfunc.PyFuncModel):
    (alone,) = draw(model, {"prompt": "an owl", "seed": 9})
    many = draw(model, {"prompt": "an owl", "seed": 7, "num_images": 20}, {"prompt": "a rocket", "seed": 1})
    assert [row["seed"] for row in many] == [*range(7, 27), 1]
    assert alone["image_png_base64"] == many[2]["image_png_base64"]


def test_unknown_words_and_cut_prompts_are_told(model: mlflow.pyfunc.PyFuncModel):
    plain, unknown, cut = draw(
        model, {"prompt": "owl"}, {"prompt": "owl riding a zeppelin"}, {"prompt": "owl " * 100}, seed=1
    )
    assert plain["warnings"] == []
    (warning,) = unknown["warnings"]
    assert "zeppelin" in warning
    assert any("tokens" in warning for warning in cut["warnings"])


def test_limits_of_the_method_are_a_bad_request(model: mlflow.pyfunc.PyFuncModel):
    with pytest.raises(RequestError, match="guidance_scale must be a number from 1 to 20"):
        draw(model, {"prompt": "an owl", "guidance_scale": 50})


def test_threads_do_not_disturb_each_other(model: mlflow.pyfunc.PyFuncModel):
    def one(seed: int) -> str:
        return draw(model, {"prompt": "an owl", "seed": seed})[0]["image_png_base64"]

    alone = [one(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == alone


def test_a_model_of_the_release_before_loads_and_draws_the_same(
    folder: Path, model: mlflow.pyfunc.PyFuncModel, tmp_path: Path
):
    """Its own code imports a name of then."""
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (code,) = copy.glob("*.py")
    assert "salon.inference.mlflow_model" in code.read_text(encoding="utf-8")
    code.write_text(
        "import mlflow\nfrom salon.serving.served import ServedModel\n"
        "mlflow.models.set_model(ServedModel())\n",
        encoding="utf-8",
    )
    before = mlflow.pyfunc.load_model(str(copy))
    request = {"prompt": "an owl", "seed": 7}
    assert draw(before, request)[0]["image_png_base64"] == draw(model, request)[0]["image_png_base64"]


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "manifest"])
def test_damaged_bundle_does_not_load(folder: Path, tmp_path: Path, damage: str):
    bundle = tmp_path / "bundle"
    shutil.copytree(folder / "artifacts" / "bundle", bundle)
    read_bundle(bundle)
    weights = bundle / "method" / "model.safetensors"
    match damage:
        case "changed":
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        case "missing":
            weights.unlink()
        case "added":
            (bundle / "clip" / "more.json").write_text("{}", encoding="utf-8")
        case "manifest":
            (bundle / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(SalonError, match="register it again"):
        read_bundle(bundle)

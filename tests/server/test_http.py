"""Real servers: MLflow's tracking server as the registry, and the served champion over HTTP."""

import base64
import io
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from mlflow_server import server, tracking_server
from salon.commands import rollback, sync
from salon.errors import SalonError
from salon.files import read_json
from salon.tracking import runs
from workspaces import COARSE, NAME, Workspace


@contextmanager
def serving(model: str, world: Workspace) -> Iterator[str]:
    command = ["models", "serve", "-m", f"models:/{model}", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", "{port}"]
    env = {"MLFLOW_TRACKING_URI": runs.tracking_uri(world.paths)}
    with server(command, cwd=world.root, health="/ping", env=env) as url:
        yield url


@pytest.fixture(scope="module")
def champion(registered_world: Workspace) -> Iterator[str]:
    with serving(f"salon-{NAME}@champion", registered_world) as url:
        yield url


def post(url: str, payload: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{url}/invocations",
        data=json.dumps(payload).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def draw(url: str, payload: Any) -> list[dict[str, Any]]:
    status, answer = post(url, payload)
    assert status == 200, answer
    return answer["predictions"]


def test_every_form_of_request_gives_the_same_png(champion: str):
    forms = [
        {"dataframe_split": {"columns": ["prompt", "seed"], "data": [["an owl", 7]]}},
        {"dataframe_records": [{"prompt": "an owl", "seed": 7}]},
        {"inputs": [{"prompt": "an owl", "seed": 7}]},
        {"inputs": {"prompt": ["an owl"], "seed": [7]}},
        {"inputs": {"prompt": "an owl", "seed": 7}},
        {"dataframe_records": [{"prompt": "an owl"}], "params": {"seed": 7}},
    ]
    answers = [draw(champion, form) for form in forms]
    assert all(len(answer) == 1 for answer in answers)
    assert len({answer[0]["image_png_base64"] for answer in answers}) == 1
    row = answers[0][0]
    picture = Image.open(io.BytesIO(base64.b64decode(row["image_png_base64"], validate=True)))
    assert (picture.format, picture.size) == ("PNG", (32, 32))
    assert row["model_version"] == picture.info["model_version"] == "1"
    assert (row["method"], row["prompt"], row["seed"], row["warnings"]) == (NAME, "an owl", 7, [])
    assert row["milliseconds"] > 0


def test_bare_prompt_is_answered_with_a_bare_list(champion: str):
    status, answer = post(champion, {"prompt": "an owl", "seed": 7})
    assert status == 200
    assert answer[0]["seed"] == 7


def test_seeds_params_and_gaps(champion: str):
    one, other = draw(champion, {"dataframe_records": [{"prompt": "an owl", "seed": s} for s in (7, 8)]})
    assert one["image_png_base64"] != other["image_png_base64"]
    answer = draw(
        champion,
        {
            "dataframe_records": [{"prompt": "an owl", "seed": 7}, {"prompt": "a rocket", "num_images": 2}],
            "params": {"seed": 3, "num_inference_steps": 2, "guidance_scale": 1.5},
        },
    )
    assert [row["seed"] for row in answer] == [7, 3, 4]
    assert answer[0]["image_png_base64"] != one["image_png_base64"]  # other steps


def test_unknown_words_come_back_as_warning(champion: str):
    (row,) = draw(champion, {"inputs": [{"prompt": "an owl and a zeppelin"}]})
    assert any("zeppelin" in warning for warning in row["warnings"])


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"dataframe_records": [{"prompt": ""}]}, "row 1: the prompt is empty"),
        ({"dataframe_records": [{"prompt": None}]}, "row 1: the prompt is missing"),
        ({"dataframe_records": [{"prompt": 5}]}, "row 1: the prompt must be text"),
        ({"dataframe_records": [{"prompt": "x" * 1001}]}, "at most 1000"),
        ({"dataframe_records": [{"prompt": "an owl", "num_inference_steps": -1}]}, "num_inference_steps"),
        ({"dataframe_records": [{"prompt": "an owl", "seed": "seven"}]}, "seed must be a number"),
        (
            {"dataframe_records": [{"prompt": "an owl"}], "params": {"guidance_scale": float("nan")}},
            "guidance",
        ),
        (
            {"dataframe_records": [{"prompt": "an owl"}], "params": {"guidance_scale": 50}},
            "guidance_scale must be a number from 1 to 20",
        ),
        ({"dataframe_split": {"columns": ["prompt"], "data": []}}, "no row"),
        ({"dataframe_records": [{"prompt": "an owl"}] * 65}, "65 rows"),
    ],
)
def test_bad_request_gets_one_sentence(champion: str, payload: Any, sentence: str):
    status, answer = post(champion, payload)
    assert status == 400
    assert sentence in answer["message"]
    assert set(answer) == {"error_code", "message"}  # no stack trace
    assert len(answer["message"]) < 150  # and no echo of the payload


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_records": []},
        {"inputs": []},
        {"dataframe_records": [{"text": "an owl"}]},
        {"dataframe_records": [{"prompt": "an owl"}], "params": {"seed": "seven"}},
        {"dataframe_records": [{"prompt": "half a character: \ud83d"}]},
        {"nothing": 1},
    ],
)
def test_what_mlflow_itself_refuses_is_a_bad_request(champion: str, payload: Any):
    status, answer = post(champion, payload)
    assert status == 400, answer
    assert "stack_trace" not in answer


def test_the_model_of_all_champions_draws_what_each_draws_alone(champion: str, workspace: Workspace):
    """With the one champion of this world; who is asked where there are several: `test_payload.py`."""
    request = {"prompt": "an owl", "seed": 7}
    (alone,) = draw(champion, {"dataframe_records": [request]})
    workspace.register()
    sync.run(workspace.params, workspace.paths)  # builds it of whoever is champion
    with serving("salon@champion", workspace) as url:
        named, everybody = (
            draw(url, {"dataframe_records": [{**request, "method": method}]}) for method in (NAME, "all")
        )
        status, refusal = post(url, {"dataframe_records": [{**request, "method": "nobody"}]})
    for rows in (named, everybody):
        assert [(row["method"], row["image_png_base64"]) for row in rows] == [
            (NAME, alone["image_png_base64"])
        ]
    assert status == 400
    assert NAME in refusal["message"]  # whom one can ask instead


def test_registry_on_a_tracking_server(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = workspace.root.with_name("server")
    with tracking_server(folder) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        workspace.retrain(seed=4, scale=COARSE)
        assert workspace.register()["alias"] == "champion"
        assert workspace.register()["version"] == "1"
        workspace.retrain(seed=1)
        assert workspace.register()["promoted"]
        assert workspace.aliases() == {"champion": "2", "previous": "1"}
        rollback.run(workspace.params, workspace.paths, NAME)
        assert workspace.aliases() == {"champion": "1", "previous": "2"}
        sync.run(workspace.params, workspace.paths)
        assert "in step, version 2 (previous)" in capsys.readouterr().out
        assert list((folder / "artifacts").rglob("model.safetensors"))
        assert not (workspace.root / "mlflow.db").exists()
        assert not (workspace.root / "mlartifacts").exists()
    started = time.monotonic()
    with pytest.raises(SalonError, match="nobody answers"):
        workspace.register()
    assert time.monotonic() - started < 15


def test_two_machines_at_once_leave_the_better_one_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    """Two workspaces, which share nothing but the server: whoever comes second is compared with the first."""
    other = Workspace(workspace.root.with_name("other"))
    shutil.copytree(workspace.root, other.root)
    workspace.retrain(seed=1)
    other.retrain(seed=4, scale=COARSE)
    with tracking_server(workspace.root.with_name("server")) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        command = [sys.executable, "-m", "salon", "register", NAME]
        processes = [
            subprocess.Popen(
                command, cwd=each.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for each in (workspace, other)
        ]
        outputs = [process.communicate(timeout=240)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        better, worse = (read_json(each.paths.registration(NAME))["version"] for each in (workspace, other))
        assert workspace.versions() == sorted([better, worse]) == ["1", "2"]
        came_second = {"champion": better, "challenger": worse}
        came_first = {"champion": better, "previous": worse}
        assert workspace.aliases() in (came_second, came_first)
        tags = workspace.store.client.get_registered_model(f"salon-{NAME}").tags
        assert {tag.partition(".")[0] for tag in tags} == {"contest"}

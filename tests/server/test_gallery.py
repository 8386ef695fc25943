"""The page's files, the ballot box, and votes in MLflow."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from mlflow_server import tracking_server
from salon.errors import SalonError
from salon.params import load_params
from salon.paths import Paths
from salon.server import gallery
from salon.server.votes import CLOSE_SECONDS, Ballot, BallotBox, Score
from salon.tracking import runs
from tiny import write_tiny_params

FOLDER = Path(gallery.__file__).parent
VERSIONS = {"gan": "1", "diffusion": "3"}


class Box:
    """Remembers what was cast."""

    def __init__(self) -> None:
        self.ballots: list[Ballot] = []

    def cast(self, ballot: Ballot) -> list[Score]:
        self.ballots.append(ballot)
        return [Score(method, version, 1, 2) for method, version in ballot.versions.items()]


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def client(box: Box) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(gallery.build_router(box, served=lambda: VERSIONS))
    with TestClient(app) as client:
        yield client


def ballot(name: str = "b1", winner: str = "gan", **versions: str) -> dict[str, object]:
    return {"ballot": name, "winner": winner, "versions": versions or VERSIONS}


def test_every_file_of_the_page_is_served_under_a_strict_policy(client: TestClient):
    assert {path.name for path in (FOLDER / "static").iterdir()} == set(gallery.STATIC)
    for path in sorted(gallery.PUBLIC_PATHS):
        answer = client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    page = client.get("/").text
    named = set(re.findall(r'(?:src|href)="(static/[^"]+)"', page))
    named |= {
        f"static/{name}" for name in re.findall(r'from "\./([^"]+)"', client.get("/static/gallery.js").text)
    }
    assert {f"/{name}" for name in named} == gallery.PUBLIC_PATHS - {"/"}


@pytest.mark.parametrize(
    "path", ["/static/gallery.py", "/static/..%2fgallery.py", "/static/%2e%2e/gallery.py"]
)
def test_nothing_else_of_the_package_is_served(client: TestClient, path: str):
    assert client.get(path).status_code == 404


def test_the_page_names_nothing_outside_and_holds_no_inline_code():
    for path in [*(FOLDER / "static").iterdir(), *(FOLDER / "templates").iterdir()]:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"""(?:https?:)?//[a-z0-9]""", text.replace("// ", "")), path.name
        assert "innerHTML" not in text, path.name
        assert not re.search(r"\son[a-z]+=|\sstyle=|<style|<script(?! type=\"module\" src=)", text), path.name


def test_a_vote_is_counted_and_answered_with_scores(client: TestClient, box: Box):
    answer = client.post("/votes", json=ballot())
    assert answer.status_code == 200
    assert answer.json()["scores"][0] == {"method": "gan", "version": "1", "votes": 1, "shown": 2}
    assert box.ballots == [Ballot(ballot="b1", winner="gan", versions=VERSIONS)]


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "this is no ballot"),
        (b"\xff\x00junk", 400, "this is no ballot"),
        (json.dumps([]).encode(), 400, "this is no ballot"),
        (json.dumps(ballot(winner="clip")).encode(), 400, "the winner was not among"),
        (json.dumps({**ballot(), "prompt": "secret"}).encode(), 400, "this is no ballot"),
        (json.dumps(ballot(gan="1")).encode(), 400, "this is no ballot"),
        (json.dumps(ballot(gan="1", diffusion="secret")).encode(), 409, "no longer served"),
        (json.dumps(ballot(gan="1", secret="1")).encode(), 409, "no longer served"),
        (json.dumps(ballot(gan="../../secret", diffusion="3")).encode(), 400, "this is no ballot"),
        (b'{"ballot": "' + b"x" * 20_000 + b'"}', 413, "at most"),
        (b"[" * 10_000, 400, "this is no ballot"),
    ],
)
def test_what_is_no_ballot_gets_one_sentence(
    client: TestClient, box: Box, content: bytes, status: int, sentence: str
):
    answer = client.post("/votes", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"error_code", "message"}
    assert sentence in body["message"]
    assert "\n" not in body["message"]
    assert len(body["message"]) < 160
    assert box.ballots == []


def test_another_site_cannot_vote(client: TestClient, box: Box):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post("/votes", content=json.dumps(ballot()), headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert box.ballots == []


# ------------------------------------------------------------------------------------------------- MLflow


def wait_for(condition, *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings and, after the first test, the tables of a store, which take seconds to make."""
    root = tmp_path_factory.mktemp("votes")
    write_tiny_params(root)
    return root


@pytest.fixture
def store(world: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> runs.Store:
    """An experiment of one's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = load_params(world / "params.yaml").model_copy(update={"experiment": request.node.name})
    return runs.open_store(params, Paths(world))


def written(store: runs.Store) -> list[dict[str, float]]:
    """The metrics of every run of votes, oldest first."""
    found = store.client.search_runs(
        [store.experiment_id], "tags.`salon.stage` = 'votes'", order_by=["start_time ASC"]
    )
    return [dict(run.data.metrics) for run in found]


def cast(book: BallotBox, name: str, winner: str = "gan") -> dict[str, tuple[int, int]]:
    scores = book.cast(Ballot(ballot=name, winner=winner, versions=VERSIONS))
    return {score.method: (score.votes, score.shown) for score in scores}


def test_votes_of_many_threads_are_all_in_mlflow_and_the_next_server_goes_on(store: runs.Store):
    book = BallotBox(lambda: store, flush_seconds=0.05)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: cast(book, f"b{i}", "diffusion" if i % 4 else "gan"), range(100)))
    assert cast(book, "b0") == {"gan": (25, 100), "diffusion": (75, 100)}  # the same ballot counts once
    book.close()
    expected = {
        "votes/gan_v1": 25, "votes/diffusion_v3": 75, "shown/gan_v1": 100, "shown/diffusion_v3": 100,
    }  # fmt: skip
    wait_for(lambda: written(store) == [expected])  # closing gives up after seconds, a busy disk later
    wait_for(lambda: store.client.search_runs([store.experiment_id])[0].info.status == "FINISHED")
    run = store.client.search_runs([store.experiment_id])[0]
    assert run.data.params == {}  # nothing of who asked for what

    following = BallotBox(lambda: store, flush_seconds=0.05)
    wait_for(lambda: cast(following, "first")["gan"][0] == 26)
    following.close()
    wait_for(lambda: len(written(store)) == 2)
    assert written(store)[1]["votes/gan_v1"] == 1


def test_votes_on_a_tracking_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    params = write_tiny_params(tmp_path)
    with tracking_server(tmp_path / "server") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        store = runs.open_store(params, Paths(tmp_path))
        book = BallotBox(lambda: store, flush_seconds=0.05)
        cast(book, "b1", "diffusion")
        wait_for(lambda: any(written(store)))  # a run is there before its figures are
        book.close()
        assert written(store)[0]["votes/diffusion_v3"] == 1


def test_a_server_that_nobody_votes_on_writes_nothing(store: runs.Store):
    book = BallotBox(lambda: store, flush_seconds=0.05)
    time.sleep(0.3)
    book.close()
    assert written(store) == []


def test_a_store_that_fails_costs_no_vote_and_no_time(store: runs.Store, caplog: pytest.LogCaptureFixture):
    broken = threading.Event()
    broken.set()

    def open_store() -> runs.Store:
        if broken.is_set():
            raise SalonError("nobody answers there")
        return store

    book = BallotBox(open_store, flush_seconds=0.05)
    started = time.monotonic()
    assert cast(book, "b1") == {"gan": (1, 1), "diffusion": (0, 1)}
    assert time.monotonic() - started < 0.5
    wait_for(lambda: "votes are kept in memory" in caplog.text)
    assert caplog.text.count("votes are kept in memory") == 1
    broken.clear()
    wait_for(lambda: any(written(store)))  # a run is there before its figures are
    assert written(store)[0]["votes/gan_v1"] == 1
    book.close()


def test_closing_while_votes_are_being_written(store: runs.Store):
    reached, go = threading.Event(), threading.Event()

    def slow_store() -> runs.Store:
        reached.set()
        go.wait()
        return store

    book = BallotBox(slow_store, flush_seconds=0.05)
    cast(book, "b1")
    reached.wait()
    closing = threading.Thread(target=book.close)
    closing.start()
    time.sleep(0.2)
    go.set()
    closing.join(CLOSE_SECONDS - 1)
    assert not closing.is_alive()
    assert written(store)[0]["votes/gan_v1"] == 1


def test_closing_without_a_store_says_what_is_lost(caplog: pytest.LogCaptureFixture):
    def open_store() -> runs.Store:
        raise SalonError("nobody answers there")

    book = BallotBox(open_store, flush_seconds=30)
    cast(book, "b1")
    started = time.monotonic()
    book.close()
    assert time.monotonic() - started < 8
    assert "votes that could not be written to MLflow: {'votes/gan_v1': 1" in caplog.text


# ---------------------------------------------------------------------------------------------- contrast


def themes() -> dict[str, dict[str, str]]:
    """The colours of the style sheet, by name, for either scheme."""
    sheet = (FOLDER / "static" / "gallery.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in sheet.split("@media", 2)[:2]
    )
    return {"light": light, "dark": {**light, **dark}}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("ink", "paper"), ("ink", "field"), ("ink", "soft"), ("quiet", "paper"), ("accent", "paper"),
        ("on-accent", "accent"), ("wall-ink", "wall"), ("wall-ink", "wall-light"), ("wall-quiet", "wall"),
        ("wall-quiet", "wall-light"), ("wall-ink", "placard"), ("accent", "wall"), ("accent", "wall-light"),
    ],
)  # fmt: skip
def test_text_is_legible_in_both_schemes(scheme: str, text: str, ground: str):
    colours = themes()[scheme]
    bright, dim = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5  # WCAG 2.2, 1.4.3

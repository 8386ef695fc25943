"""The server over HTTP, with five small methods behind it."""

import base64
import concurrent.futures
import http.client
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import psutil
import pytest
from PIL import Image

from five_methods import METHODS, Running, serve, write_bundles
from fuzzing import fuzz, raw_junk
from salon.inference.contract import contract
from salon.params.serve import ServeParams
from salon.server.votes import Ballot, Score

FUZZ_REQUESTS = int(os.environ.get("SALON_FUZZ_REQUESTS", 600))
SCHEMA = Path(__file__).parents[2] / "docs" / "serving.schema.json"


class NoVotes:
    def cast(self, ballot: Ballot) -> list[Score]:
        return []


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bundles(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def running(bundles: dict[str, Path]) -> Iterator[Running]:
    with serve(bundles, NoVotes(), settings=ServeParams(body_seconds=1)) as running:
        yield running


def call(
    url: str, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        names = {"Content-Type": "application/json"} | {
            key.replace("_", "-"): value for key, value in headers.items()
        }
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before the whole body was sent
            connection.request(method, path, body=content, headers=names)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def draw(running: Running, body: Any) -> list[dict[str, Any]]:
    status, _, answer = call(running.url, "POST", "/invocations", body)
    assert status == 200, answer
    return json.loads(answer)["predictions"]


def valid(part: str, value: Any) -> None:
    document = contract()
    jsonschema.validate(value, {**document, "$ref": f"#/$defs/{part}"})


def test_contract_in_the_docs_is_that_of_the_code():
    written = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert written == contract(), f"run `python -m salon.inference.contract {SCHEMA.name}` in docs/"
    jsonschema.Draft202012Validator.check_schema(written)


FORMS = [
    {"dataframe_split": {"columns": ["prompt", "seed", "method"], "data": [["an owl", 7, "gan"]]}},
    {"dataframe_records": [{"prompt": "an owl", "seed": 7, "method": "gan"}]},
    {"inputs": [{"prompt": "an owl", "seed": 7, "method": "gan"}]},
    {"inputs": {"prompt": ["an owl"], "seed": [7], "method": ["gan"]}},
    {"instances": {"prompt": "an owl", "seed": 7, "method": "gan"}},
    {"inputs": [{"prompt": "an owl"}], "params": {"seed": 7, "method": "gan"}},
]


def test_every_form_follows_the_contract_and_gives_the_same_bytes(running: Running):
    pictures = set()
    for body in FORMS:
        valid("request", body)
        status, headers, answer = call(running.url, "POST", "/invocations", body)
        assert (status, headers["content-type"]) == (200, "application/json")
        valid("answer", json.loads(answer))
        (row,) = json.loads(answer)["predictions"]
        assert (row["method"], row["model_version"], row["seed"]) == ("gan", "1", 7)
        pictures.add(row["image_png_base64"])
    assert len(pictures) == 1
    picture = Image.open(io.BytesIO(base64.b64decode(pictures.pop(), validate=True)))
    assert (picture.format, picture.size) == ("PNG", (32, 32))
    bare = {"prompt": "an owl", "seed": 7}
    valid("request", bare)
    valid("bare_answer", json.loads(call(running.url, "POST", "/invocations", bare)[2]))


def test_all_asks_everybody_and_nobody_named_is_the_first(running: Running):
    rows = draw(running, {"inputs": [{"prompt": "an owl", "seed": 3, "method": "all"}]})
    assert [row["method"] for row in rows] == list(METHODS)
    assert len({row["image_png_base64"] for row in rows}) == len(METHODS)
    assert draw(running, {"inputs": [{"prompt": "an owl", "seed": 3}]})[0]["method"] == next(iter(METHODS))
    mixed = draw(
        running,
        {"inputs": [{"prompt": "an owl", "method": m, "seed": i} for i, m in enumerate(["dalle", "gan"])]},
    )
    assert [(row["method"], row["seed"]) for row in mixed] == [("dalle", 0), ("gan", 1)]


def test_warnings_name_unknown_words_and_cut_prompts(running: Running):
    plain, unknown, cut = draw(
        running, {"inputs": [{"prompt": p} for p in ("an owl", "an owl in a zeppelin", "an owl " * 60)]}
    )
    assert plain["warnings"] == []
    assert "zeppelin" in unknown["warnings"][0]
    assert "tokens" in cut["warnings"][0]


def test_requests_at_once_get_the_bytes_that_they_get_alone(running: Running):
    def one(number: int) -> str:
        asked = {"prompt": "an owl", "seed": number, "method": ["diffusion", "clip", "dalle"][number % 3]}
        return draw(running, {"inputs": [asked]})[0]["image_png_base64"]

    alone = [one(number) for number in range(24)]
    before = _meter(running, "salon_batch_pictures_count")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert list(pool.map(one, range(24))) == alone
    assert _meter(running, "salon_batch_pictures_count") - before < 24  # so that some were drawn together


def test_models_health_metrics_and_the_rest(running: Running):
    models = json.loads(call(running.url, "GET", "/models")[2])
    valid("models", models)
    assert [each["method"] for each in models["methods"]] == list(METHODS)
    assert "owl" in models["words"]["en"]
    assert "сова" in models["words"]["ru"]
    assert "an owl on a blue background" in models["examples"]
    for path in ("/health", "/ping"):
        status, _, answer = call(running.url, "GET", path)
        valid("health", json.loads(answer))
        assert (status, json.loads(answer)["status"]) == (200, "ready")
    assert call(running.url, "GET", "/version")[0] == 200
    assert _meter(running, "salon_ready") == 1
    assert _meter(running, 'salon_requests_total{status="200"}') > 0


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"inputs": [{"prompt": ""}]}, 400, "row 1: the prompt is empty"),
        ({"inputs": [{"seed": 1}]}, 400, "row 1: the prompt is missing"),
        ({"inputs": [{"prompt": 5}]}, 400, "row 1: the prompt must be text"),
        ({"inputs": [{"prompt": "x" * 10_000}]}, 400, "10000 characters, at most 1000"),
        ({"inputs": [{"prompt": "a", "guidance_scale": float("nan")}]}, 400, "not valid JSON"),
        (b'{"inputs": [{"prompt": "a", "guidance_scale": 1e999}]}', 400, "guidance_scale"),
        ({"inputs": [{"prompt": "a", "num_inference_steps": -1}]}, 400, "num_inference_steps"),
        ({"inputs": [{"prompt": "a", "num_inference_steps": 10**9}]}, 400, "num_inference_steps"),
        ({"inputs": [{"prompt": "a", "method": "dall-e"}]}, 400, "method must be one of"),
        ({"inputs": [{"prompt": "a", "method": "gan", "num_inference_steps": 4}]}, 400, "takes 1 only"),
        ({"inputs": []}, 400, "no row"),
        ({"inputs": [{"prompt": "a"}] * 10_000}, 400, "10000 rows"),
        (b"\x00\xff\xfe binary", 400, "not valid JSON"),
        (b'{"inputs":' + b"[" * 400_000, 400, "not valid JSON"),
        (b'{"inputs": "' + b"a" * 2_000_000 + b'"}', 413, "longer than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_input_gets_one_sentence_and_no_work(running: Running, body: Any, status: int, sentence: str):
    before = _drawn(running)
    found, _, answer = call(running.url, "POST", "/invocations", body)
    problem = json.loads(answer)
    assert (found, set(problem)) == (status, {"error_code", "message"})
    valid("error", problem)
    assert sentence in problem["message"]
    assert len(problem["message"]) < 200
    assert _drawn(running) == before


def test_wrong_types_paths_and_methods(running: Running):
    good = {"inputs": [{"prompt": "an owl"}]}
    for kind in ("text/csv", "application/x-www-form-urlencoded", ""):
        status, _, answer = call(running.url, "POST", "/invocations", good, Content_Type=kind)
        assert (status, "application/json" in json.loads(answer)["message"]) == (415, True)
    assert (
        call(running.url, "POST", "/invocations", good, Content_Type="application/json; charset=utf-8")[0]
        == 200
    )
    assert call(running.url, "GET", "/invocations")[0] == 405
    assert call(running.url, "GET", "/docs")[0] == 404
    assert call(running.url, "GET", "/openapi.json")[0] == 404


def test_a_hundred_megabytes_are_refused_before_they_are_sent(running: Running):
    """By their announced length; and without one, as soon as they are too long."""
    parts = urlsplit(running.url)
    for head, chunk in (
        (b"Content-Length: 104857600", b"x" * 65536),
        (b"Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ):
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as raw:
            raw.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + head
                + b"\r\n\r\n"
            )
            sent = 0
            try:
                for _ in range(1600):
                    raw.sendall(chunk)
                    sent += len(chunk)
            except OSError:
                pass  # the server hung up
            assert sent < 50_000_000
    assert draw(running, {"inputs": [{"prompt": "an owl", "method": "gan"}]})


def test_body_that_never_comes_is_not_waited_for(running: Running):
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in raw.recv(4096)


def test_client_that_goes_away_is_not_drawn_for(running: Running):
    parts = urlsplit(running.url)
    body = json.dumps(
        {
            "inputs": [
                {"prompt": "an owl", "num_images": 64, "method": "diffusion", "num_inference_steps": 200}
            ]
        }
    ).encode()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as raw:
        raw.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        while not _meter(running, "salon_waiting_pictures"):
            time.sleep(0.01)
    deadline = time.monotonic() + 5
    while _meter(running, "salon_waiting_pictures"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started = time.monotonic()
    assert draw(running, {"inputs": [{"prompt": "an owl", "method": "gan"}]})
    assert time.monotonic() - started < 2  # of the 64 pictures not even the batch that was begun is finished


def test_token_is_asked_for_everything_but_health(bundles: dict[str, Path]):
    good = {"inputs": [{"prompt": "an owl"}]}
    with serve(bundles, NoVotes(), token="open sesame ü") as running:
        assert call(running.url, "GET", "/health")[0] == 200
        for path in ("POST /invocations", "GET /models", "GET /metrics", "POST /votes", "GET /nothing"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic open"}):
                status, answer_headers, answer = call(running.url, *path.split(), good, **headers)
                assert (status, answer_headers["www-authenticate"]) == (401, "Bearer"), path
                assert "open sesame" not in answer.decode()
        token = "Bearer open sesame ü".encode().decode("latin-1")
        assert call(running.url, "POST", "/invocations", good, Authorization=token)[0] == 200


def test_new_champion_is_taken_over_without_dropping_a_request(running: Running):
    asked = {"prompt": "an owl", "method": "gan"}
    stop: list[bool] = []
    outcomes: list[tuple[int, Any]] = []

    def keep_asking() -> None:
        while not stop:
            status, _, answer = call(running.url, "POST", "/invocations", asked)
            outcomes.append((status, json.loads(answer)[0]["model_version"] if status == 200 else answer))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(keep_asking)
        for version in ("2", "1"):
            running.registry.versions["gan"] = version
            deadline = time.monotonic() + 20
            while not outcomes or outcomes[-1][1] != version:
                assert time.monotonic() < deadline, outcomes[-3:]
                time.sleep(0.02)
        stop.append(True)
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {"1", "2"}


def test_champion_that_cannot_be_loaded_leaves_the_old_one(bundles: dict[str, Path], running: Running):
    running.registry.bundles = {**bundles, "vqvae": bundles["gan"] / "nothing"}
    running.registry.versions["vqvae"] = "9"
    deadline = time.monotonic() + 10
    while not (problems := json.loads(call(running.url, "GET", "/health")[2])["problems"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "version 9 cannot serve" in problems["vqvae"]
    assert "version 1 goes on" in problems["vqvae"]
    assert draw(running, {"inputs": [{"prompt": "an owl", "method": "vqvae"}]})[0]["model_version"] == "1"
    running.registry.bundles = bundles
    running.registry.versions["vqvae"] = "1"
    while json.loads(call(running.url, "GET", "/health")[2])["problems"]:
        assert time.monotonic() < deadline + 10
        time.sleep(0.05)


def test_fuzzing_finds_nothing(running: Running):
    process = psutil.Process()
    fuzz(running.url, 20, number=1)
    open_before, threads_before = process.num_fds(), process.num_threads()
    started = time.monotonic()
    verdict = fuzz(running.url, FUZZ_REQUESTS)
    print(f"{verdict} in {time.monotonic() - started:.0f} s, {process.memory_info().rss / 2**30:.2f} GiB")
    assert process.num_fds() <= open_before + 5
    assert process.num_threads() <= threads_before + 40  # asyncio's pool grows to 32 and stays
    assert verdict.statuses[200] > 0
    assert verdict.statuses[400] > 0
    raw_junk(running.url, 20, seed=1)
    assert draw(running, {"inputs": [{"prompt": "an owl", "method": "gan"}]})


def _meter(running: Running, name: str) -> float:
    text = call(running.url, "GET", "/metrics")[2].decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def _drawn(running: Running) -> float:
    """Pictures so far."""
    lines = call(running.url, "GET", "/metrics")[2].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("salon_pictures_total"))

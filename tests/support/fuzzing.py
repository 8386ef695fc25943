"""Requests that somebody might send to a server, from nearly valid to junk; and what may come back.

`python tests/support/fuzzing.py --url http://127.0.0.1:8080 --requests 5000` runs it against any server.
"""

import argparse
import http.client
import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MAX_SECONDS = 20.0  # to answer a request
KEYS = ("prompt", "method", "seed", "num_inference_steps", "guidance_scale", "num_images")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 80),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=30),
    st.sampled_from(["an owl", "сова", "", " ", "all", "gan", "diffusion", "\ud800", "\0", "x" * 1001, "🦉"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
# mostly what is meant, so that much gets past the first check
options = {
    "method": st.one_of(st.sampled_from(["gan", "diffusion", "all", "nobody"]), scalars),
    "seed": st.one_of(st.integers(0, 2**32 - 1), scalars),
    "num_inference_steps": st.one_of(st.integers(1, 4), scalars),
    "guidance_scale": st.one_of(st.floats(1, 5), scalars),
    "num_images": st.one_of(st.integers(1, 3), scalars),
}
prompts = st.one_of(st.sampled_from(["an owl on a blue background", "ракета", "a zeppelin"]), scalars)
rows = st.fixed_dictionaries({"prompt": prompts}, optional=options)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=6))
params = st.one_of(st.fixed_dictionaries({}, optional=options), anything)
forms = st.sampled_from(["dataframe_records", "dataframe_split", "inputs", "instances", "columns"])


@st.composite
def payloads(draw: st.DrawFn) -> Any:
    """A body before it is written as JSON."""
    form = draw(forms)
    wanted = draw(st.lists(rows, max_size=3))
    body: dict[str, Any] = {form: wanted}
    if form == "dataframe_split":
        columns = draw(st.lists(keys, max_size=4))
        data = draw(st.lists(st.lists(scalars, min_size=len(columns), max_size=len(columns)), max_size=3))
        body = {form: {"columns": columns, "data": data}}
    elif draw(st.booleans()) and wanted:
        body = {
            "inputs": draw(st.one_of(st.just(wanted[0]), st.just({k: [v] for k, v in wanted[0].items()})))
        }
    if draw(st.booleans()):
        body["params"] = draw(params)
    return draw(st.one_of(st.just(body), st.just(body), st.just(body), rows, anything))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """What goes over the wire: JSON, JSON that was damaged, or bytes."""
    text = json.dumps(draw(payloads()), ensure_ascii=draw(st.booleans()))
    body = text.encode("utf-8", errors="surrogatepass")
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1 and body:
        at = draw(st.integers(0, len(body) - 1))
        return body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 4)) :]
    if kind == 2:
        depth = draw(st.integers(1, 3000))
        return b'{"inputs":' + b"[" * depth + b"]" * depth + b"}"
    return body


content_types = st.sampled_from(
    [
        "application/json",
        "application/json; charset=utf-8",
        "text/csv",
        "application/vnd.apache.parquet",
        "",
        "x",
    ]
)
scoring = st.tuples(st.just("POST"), st.just("/invocations"), st.just("application/json"), bodies())
calls = st.one_of(
    scoring,
    scoring,
    scoring,
    st.tuples(
        st.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        st.sampled_from(["/invocations", "/", "/votes", "/models", "/%00", "/../etc/passwd", "/health/"]),
        content_types,
        bodies(),
    ),
)


@dataclass
class Verdict:
    """What the server did."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0


def check_call(url: str, call: tuple[str, str, str, bytes], verdict: Verdict) -> None:
    """Send one request; fail on a 5xx other than a full queue, a hang, a trace, or an echo."""
    method, path, content_type, body = call
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=MAX_SECONDS)
    started = time.monotonic()
    try:
        connection.request(method, path, body=body, headers={"Content-Type": content_type})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    seconds = time.monotonic() - started
    verdict.slowest = max(verdict.slowest, seconds)
    verdict.statuses[response.status] += 1
    if response.status == 503:
        assert response.getheader("Retry-After"), answer
        return
    assert response.status < 500, (response.status, answer, call)
    if response.status >= 400 and method != "HEAD":
        problem = json.loads(answer)
        assert set(problem) == {"error_code", "message"}, problem
        assert len(problem["message"]) < 200, problem
        assert "\n" not in problem["message"], problem
        assert "Traceback" not in problem["message"], problem


def raw_junk(url: str, count: int, *, seed: int) -> None:
    """Bytes that are no HTTP: whatever comes back, the server goes on."""
    parts = urlsplit(url)
    rng = random.Random(seed)
    for _ in range(count):
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=MAX_SECONDS) as raw:
            raw.sendall(rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(MAX_SECONDS)
            answer = raw.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 5"), answer


def fuzz(url: str, requests: int, *, number: int = 0) -> Verdict:
    """Send so many requests, the same for the same `number`."""
    verdict = Verdict()

    @seed(number)
    @settings(
        max_examples=requests,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(calls)
    def run(call: tuple[str, str, str, bytes]) -> None:
        check_call(url, call, verdict)

    run()
    return verdict


def main() -> None:
    """Fuzz the server at `--url` and print what it answered."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--requests", type=int, default=5000)
    arguments = parser.parse_args()
    started = time.monotonic()
    verdict = fuzz(arguments.url, arguments.requests)
    raw_junk(arguments.url, 100, seed=0)
    print(
        f"{verdict.statuses.total()} requests in {time.monotonic() - started:.0f} s: "
        f"{dict(sorted(verdict.statuses.items()))}; slowest {verdict.slowest:.2f} s"
    )


if __name__ == "__main__":
    main()

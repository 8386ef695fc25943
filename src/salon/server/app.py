"""The server: MLflow's scoring contract over the queue, with health, models and metrics beside it."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import mlflow.version
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from salon.inference.model import DrawnImage, LoadedModel
from salon.inference.request import RequestError, read_requests
from salon.server.batching import BatchQueue, OutOfTime, QueueFull
from salon.server.metrics import ServerMetrics
from salon.server.models import ServedModels
from salon.server.payload import Payload, read_payload
from salon.server.refusal import refuse, refuse_for_now

logger = logging.getLogger(__name__)

JSON = "application/json"
OUT_OF_TIME = "time ran out before all was drawn: ask for fewer pictures or steps"
STILL_LOADING = "the models are still loading"
LOADING_RETRY_SECONDS = 2


def build_app(queue: BatchQueue, models: ServedModels, metrics: ServerMetrics) -> FastAPI:
    """The routes, without limits and gallery."""
    # no pages that load their script from elsewhere
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        started = time.perf_counter()
        response = await _answer(request, queue, models)
        metrics.requests.labels(str(response.status_code)).inc()
        metrics.seconds.observe(time.perf_counter() - started)
        return response

    @app.get("/ping")
    @app.get("/health")
    async def health() -> Response:
        ready = models.is_ready and queue.is_alive
        state = {
            "status": "ready" if ready else "loading" if not models.has_begun else "failed",
            "models": models.versions(),
            "loading": models.loading,
            "problems": dict(models.problems),
        }
        return JSONResponse(state, status_code=200 if ready else 503)

    @app.get("/version")
    async def version() -> Response:
        return Response(mlflow.version.VERSION, media_type=JSON)

    @app.get("/models")
    async def describe() -> Response:
        if not models.is_ready:
            return refuse_for_now(STILL_LOADING, retry_seconds=LOADING_RETRY_SECONDS)
        return JSONResponse(describe_models(models.serving))

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        sentence = {404: "there is nothing at this path", 405: "this path takes another method"}
        return refuse(error.status_code, sentence.get(error.status_code, str(error.detail)))

    return app


async def _answer(request: Request, queue: BatchQueue, models: ServedModels) -> Response:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != JSON:
        return refuse(415, f"the content type must be {JSON}")
    if not models.is_ready:
        return refuse_for_now(STILL_LOADING, retry_seconds=LOADING_RETRY_SECONDS)
    serving = models.serving  # one look: what serves now serves this request to its end
    try:
        payload = read_payload(await request.body())
        requests = read_requests(payload.rows, payload.params, methods=list(serving))
        job = queue.submit([serving[each.method] for each in requests], requests)
        pictures = await _wait(request, job.future)
    except RequestError as error:
        return refuse(400, error.sentence)
    except QueueFull as error:
        return refuse_for_now(str(error), retry_seconds=error.retry_seconds)
    except OutOfTime:
        return refuse_for_now(OUT_OF_TIME, retry_seconds=5)
    except Exception:
        logger.exception("a request failed")
        return refuse(500, "the server failed to draw this; its log says why")
    if pictures is None:
        return Response(status_code=499)  # nobody is there to read it
    return await asyncio.to_thread(_render, pictures, payload)


async def _wait(request: Request, future: "Future[list[DrawnImage]]") -> list[DrawnImage] | None:
    """The pictures; None where the client went away, and then nobody draws them."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(request))
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        future.cancel()
        return None
    finally:
        gone.cancel()
        answer.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _render(pictures: list[DrawnImage], payload: Payload) -> Response:
    rows = [picture.row() for picture in pictures]
    return Response(json.dumps(rows if payload.bare else {"predictions": rows}), media_type=JSON)


def describe_models(models: Mapping[str, LoadedModel]) -> dict[str, Any]:
    """Who serves, which words they know, and prompts to begin with."""
    words: dict[str, set[str]] = {"en": set(), "ru": set()}
    examples: dict[str, None] = {}
    for model in models.values():
        for word in model.encoder.tower.known_words:
            words["en" if word.isascii() else "ru"].add(word)
        examples |= dict.fromkeys(model.package.description.get("examples", []))
    return {
        "methods": [
            {"method": model.name, "version": model.version}
            | {key: model.package.description[key] for key in ("family", "model_sha256", "data_sha256")}
            for model in models.values()
        ],
        "words": {language: sorted(found) for language, found in words.items() if found},
        "examples": list(examples),
    }

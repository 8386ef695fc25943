"""The gallery: one page on which a visitor asks all champions, and votes without knowing who drew what.

The page is plain HTML with one style sheet and one script, all from here: it loads nothing from elsewhere and
needs no network but this server. It speaks to the server as any client does (`POST /invocations`,
`GET /models`); what is here is the page, its files and the ballot box.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from salon.inference.request import MAX_PROMPT_LENGTH, MAX_SEED
from salon.server.refusal import refuse
from salon.server.votes import Ballot, BallotBox
from salon.templates import page_environment

MAX_BALLOT_BYTES = 16_384
SCRIPTS = ("gallery.js", "link.js", "server.js", "wall.js")
STATIC = {
    "gallery.css": "text/css; charset=utf-8",
    **dict.fromkeys(SCRIPTS, "text/javascript; charset=utf-8"),
    "icon.svg": "image/svg+xml",
}
# blob: the pictures arrive as base64 in JSON and are shown from memory
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, answered with 304
}
PUBLIC_PATHS = frozenset({"/", *(f"/static/{name}" for name in STATIC)})
"""What a browser must be able to load before it can send a token; nothing of it is secret."""


def build_router(votes: BallotBox, *, served: Callable[[], Mapping[str, str]]) -> APIRouter:
    """The page, its files and `POST /votes`, which refuses a ballot on versions that are not `served` now."""
    router = APIRouter(include_in_schema=False)
    template = page_environment("salon.server").get_template("gallery.html")
    page = template.render(max_prompt_length=MAX_PROMPT_LENGTH, max_seed=MAX_SEED).encode()
    folder = files("salon.server") / "static"
    static = {name: (folder / name).read_bytes() for name in STATIC}

    @router.get("/")
    async def gallery(request: Request) -> Response:
        return _answer(request, page, "text/html; charset=utf-8")

    @router.get("/static/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in static:
            return refuse(404, "there is no such file")
        return _answer(request, static[name], STATIC[name])

    @router.post("/votes")
    async def vote(request: Request) -> Response:
        # a page of another site cannot send this type without asking, and is told no
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return refuse(415, "a ballot must come as application/json")
        body = await request.body()
        if len(body) > MAX_BALLOT_BYTES:
            return refuse(413, f"a ballot has at most {MAX_BALLOT_BYTES} bytes")
        try:
            ballot = Ballot.model_validate_json(body)
        except ValidationError as error:
            reason = error.errors(include_input=False, include_url=False, include_context=False)[0]["msg"]
            return refuse(400, f"this is no ballot: {reason}")
        if gone := sorted(method for method, _ in ballot.versions.items() - served().items()):
            return refuse(409, f"no longer served, so the vote is not counted: {', '.join(gone)}")
        return JSONResponse({"scores": [asdict(score) for score in votes.cast(ballot)]})

    return router


def _answer(request: Request, content: bytes, media_type: str) -> Response:
    headers = {**HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)

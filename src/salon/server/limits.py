"""What stands before every request: the token, the size and pace of the body, and how many come at once.

Plain ASGI, so that what is refused costs nothing. Every refusal is one sentence in MLflow's form.
"""

import asyncio
import hmac
from collections.abc import Collection
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salon.params.serve import ServeParams
from salon.server.refusal import refuse

CLOSE = {"Connection": "close"}  # what is left of the body is not read


@dataclass
class Limits:
    """Middleware around the whole server."""

    app: ASGIApp
    settings: ServeParams
    token: str | None
    """What `Authorization: Bearer` must say; None asks for none."""
    public: Collection[str]
    """Paths that need no token."""
    _open: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._is_allowed(scope["path"], headers):
            sentence = "this server asks for a token: send it as `Authorization: Bearer …`"
            await refuse(401, sentence, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        if self._open >= self.settings.max_connections and scope["path"] != "/health":
            sentence = "too many requests at once: try again in a second"
            await refuse(503, sentence, headers={"Retry-After": "1", **CLOSE})(scope, receive, send)
            return
        self._open += 1
        try:
            body = await self._read(headers, receive)
            if isinstance(body, JSONResponse):
                await body(scope, receive, send)
            elif body is not None:
                await self.app(scope, _replay(body, receive), send)
        finally:
            self._open -= 1

    def _is_allowed(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.token is None or path in self.public:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token.encode())

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | JSONResponse | None:
        """The body, or why it is refused; None where the client went away."""
        limit = self.settings.max_body_bytes
        length = headers.get(b"content-length", b"0")
        body = bytearray()
        more = fits = length.isdigit() and int(length[:20]) <= limit
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                while more and fits:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    fits = len(body) <= limit
        except TimeoutError:
            sentence = f"the body did not come within {self.settings.body_seconds:g} s"
            return refuse(408, sentence, headers=CLOSE)
        return bytes(body) if fits else refuse(413, f"the body is longer than {limit} bytes", headers=CLOSE)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever comes: the client's end."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return read.pop() if read else await receive()

    return replay

"""What stands before every request: the token, the size and pace of the body, and how many come at once.

Plain ASGI, so that what is refused costs nothing. Every refusal is one sentence in MLflow's form.
"""

import asyncio
import hmac
import json
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salon.params.serve import ServeParams


class Limits:
    """Middleware around the whole server."""

    def __init__(
        self, app: ASGIApp, settings: ServeParams, *, token: str | None, public: Collection[str]
    ) -> None:
        """
        Args:
            token: What `Authorization: Bearer` must say; None asks for none.
            public: Paths that need no token.
        """
        self._app = app
        self._settings = settings
        self._token = token
        self._public = public
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._is_allowed(scope["path"], headers):
            sentence = "this server asks for a token: send it as `Authorization: Bearer …`"
            await _refuse(send, 401, "UNAUTHENTICATED", sentence, extra=[(b"www-authenticate", b"Bearer")])
            return
        if self._open >= self._settings.max_connections and scope["path"] != "/health":
            sentence = "too many requests at once: try again in a second"
            await _refuse(
                send, 503, "TEMPORARILY_UNAVAILABLE", sentence, extra=[(b"retry-after", b"1")], close=True
            )
            return
        self._open += 1
        try:
            await self._limited(scope, headers, receive, send)
        finally:
            self._open -= 1

    def _is_allowed(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self._token is None or path in self._public:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token.encode())

    async def _limited(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        limit = self._settings.max_body_bytes
        length = headers.get(b"content-length", b"0")
        too_large = f"the body is longer than {limit} bytes"
        if not length.isdigit() or int(length[:20]) > limit:
            await _refuse(send, 413, "INVALID_PARAMETER_VALUE", too_large, close=True)
            return
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    more = message.get("more_body", False)
                    if size > limit:
                        await _refuse(send, 413, "INVALID_PARAMETER_VALUE", too_large, close=True)
                        return
        except TimeoutError:
            sentence = f"the body did not come within {self._settings.body_seconds:g} s"
            await _refuse(send, 408, "INVALID_PARAMETER_VALUE", sentence, close=True)
            return
        body = b"".join(chunks)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()  # the client's end
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


async def _refuse(
    send: Send,
    status: int,
    code: str,
    sentence: str,
    *,
    extra: list[tuple[bytes, bytes]] | None = None,
    close: bool = False,
) -> None:
    body = json.dumps({"error_code": code, "message": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(extra or []),
        *([(b"connection", b"close")] if close else []),  # what is left of the body is not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

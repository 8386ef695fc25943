"""What the Hugging Face hub answers about one dataset, served from a folder on this machine."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "1" * 40


@contextmanager
def serve_dataset(root: Path, identity: str) -> Iterator[str]:
    """The address of a hub that has the dataset `identity`, whose files are those of `root`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(root, identity))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(root: Path, identity: str) -> type[http.server.BaseHTTPRequestHandler]:
    api, files = f"/api/datasets/{identity}", f"/datasets/{identity}/resolve/{COMMIT}/"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if path in (api, f"{api}/revision/{COMMIT}"):
                names = [{"rfilename": str(f.relative_to(root))} for f in root.rglob("*") if f.is_file()]
                return self.answer(_as_json({"id": identity, "sha": COMMIT, "siblings": names}))
            if path.startswith(f"{api}/tree/{COMMIT}"):
                folder = root / path.removeprefix(f"{api}/tree/{COMMIT}").lstrip("/")
                return self.answer(_as_json([_entry(file, root) for file in sorted(folder.iterdir())]))
            file = root / path.removeprefix(files)
            if not path.startswith(files) or not file.is_file():
                return self.answer(b"{}", 404, {"X-Error-Code": "EntryNotFound"})
            return self.answer_file(file.read_bytes())

        def answer_file(self, data: bytes) -> None:
            facts = {"ETag": f'"{sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            asked = self.headers.get("Range")
            if not asked or self.command == "HEAD":
                return self.answer(data, 200, facts)
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
            facts["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            return self.answer(part, 206, facts)

        def answer(self, body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _entry(path: Path, root: Path) -> dict[str, object]:
    known = {"path": str(path.relative_to(root)), "oid": sha1(str(path).encode()).hexdigest()}
    if path.is_dir():
        return known | {"type": "directory", "size": 0}
    return known | {"type": "file", "size": path.stat().st_size}


def _as_json(value: object) -> bytes:
    return json.dumps(value).encode()

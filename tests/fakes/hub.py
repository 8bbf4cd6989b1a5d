"""The hub, as far as its client needs it to fetch one repository: a server on a free port of loopback."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = "someone/model"
COMMIT = "1234567890abcdef1234567890abcdef12345678"


class Hub:
    """Has `files` at `commit`, of which those that end in `.safetensors` are large; as a context.

    The first calls get the statuses of `statuses`, one each; all others, and 200, are answered.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Set up, listen later."""
        self.files = dict(files)
        self.commit = COMMIT
        self.statuses: list[int] = []
        self.fetched: list[str] = []

        class Handler(_Handler):
            hub = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Answer."""
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def describe(self, name: str) -> dict[str, Any]:
        """Say what the API says of a file."""
        data = self.files[name]
        said: dict[str, Any] = {
            "rfilename": name,
            "size": len(data),
            "blobId": hashlib.sha1(data).hexdigest(),  # noqa: S324  # git's
        }
        if name.endswith(".safetensors"):
            said["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return said


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, is_head: bool) -> None:
        path, commit = urlsplit(self.path).path, self.hub.commit
        name = path.rpartition(f"/resolve/{commit}/")[2]
        status = self.hub.statuses.pop(0) if self.hub.statuses else 200
        if status != 200:
            self.send_error(status)
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            tree = [
                {"type": "file", "path": f, "oid": d["blobId"], "size": d["size"]}
                | ({"lfs": {"oid": d["lfs"]["sha256"], **d["lfs"]}} if "lfs" in d else {})
                for f in self.hub.files
                for d in (self.hub.describe(f),)
            ]
            self._write(json.dumps(tree).encode(), {}, is_head=is_head)
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            siblings = [self.hub.describe(name) for name in self.hub.files]
            told = {"id": REPOSITORY, "sha": commit, "siblings": siblings}
            self._write(json.dumps(told).encode(), {}, is_head=is_head)
        elif name in self.hub.files:
            data = self.hub.files[name]
            if not is_head:
                self.hub.fetched.append(name)
            tag = self.hub.describe(name).get("lfs", {}).get("sha256") or self.hub.describe(name)["blobId"]
            self._write(data, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, is_head=is_head)
        else:
            self.send_error(404)

    def _write(self, data: bytes, headers: Mapping[str, str], *, is_head: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_head:
            self.wfile.write(data)

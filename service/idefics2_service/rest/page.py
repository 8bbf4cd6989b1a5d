"""The page at `/`, where a person tries the model.

Its files lie in `page/`. They are as they are sent, but for the bounds and names that stand in index.html.
"""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from idefics2_service import validation
from idefics2_service.formats import FORMATS
from idefics2_service.rest.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.settings import LimitSettings

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class PageFacts:
    """What the page says of the service."""

    app_id: str
    limits: LimitSettings
    grpc_url: str
    """`grpcs://HOST:PORT`, or `grpc://`; without a host, it is the page's."""


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def make_router(facts: PageFacts) -> APIRouter:
    """Serve the page, which says `facts`; its files are read now."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: _read(path) for path in FOLDER.iterdir() if path.name != INDEX}
    index = _make_file(INDEX, _fill(facts).encode())

    @router.api_route("/", methods=["GET", "HEAD"])
    async def show_page(request: Request) -> Response:
        return _answer(request, index)

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def show_file(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem(404, "not_found", f"Path {request.url.path} not found")
        return _answer(request, files[name])

    return router


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _read(path: Path) -> _File:
    return _make_file(path.name, path.read_bytes())


def _make_file(name: str, content: bytes) -> _File:
    return _File(content, _MEDIA_TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _fill(facts: PageFacts) -> str:
    """Write names, bounds and defaults into the page."""
    values = {name: html.escape(str(value)) for name, value in _list_values(facts)}
    page = Template((FOLDER / INDEX).read_text("utf-8"))
    return page.substitute(values, preloads=_write_preloads())


def _write_preloads() -> str:
    """Name all scripts, so that a browser does not find them one after the other."""
    names = sorted(path.name for path in FOLDER.glob("*.js"))
    return "\n".join(f'  <link rel="modulepreload" href="page/{name}">' for name in names)


def _list_values(facts: PageFacts) -> Iterator[tuple[str, object]]:
    limits = facts.limits
    yield "app", facts.app_id
    yield "grpc_url", facts.grpc_url
    yield "accepted", ",".join(f"image/{name.lower()}" for name in FORMATS)
    yield "max_image_bytes", limits.max_image_bytes
    yield "max_image_megabytes", f"{limits.max_image_bytes / 1e6:g}"
    yield "temperature", validation.DEFAULT_TEMPERATURE
    yield "min_temperature", f"{validation.MIN_TEMPERATURE:g}"
    yield "max_temperature", f"{validation.MAX_TEMPERATURE:g}"
    yield "repetition_penalty", validation.DEFAULT_REPETITION_PENALTY
    yield "min_repetition_penalty", f"{validation.MIN_REPETITION_PENALTY:g}"
    yield "max_repetition_penalty", f"{validation.MAX_REPETITION_PENALTY:g}"
    yield "top_p", validation.DEFAULT_TOP_P
    yield "max_new_tokens", min(validation.DEFAULT_MAX_NEW_TOKENS, limits.max_new_tokens)
    yield "max_max_new_tokens", limits.max_new_tokens

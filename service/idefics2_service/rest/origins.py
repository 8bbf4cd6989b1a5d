"""How a call came in, and so which URLs work for its caller.

The hosted endpoint is four services on hosts of their own: run, queue, rest and cdn. Here they are one port.
Which one a call means is said by the URL that it was made for (`x-fal-target-url`, at PROXY_PATH), by the
first part of its path (`/queue/...`), or by its host (`queue.fal.run`, or `queue.` before a name of one's
own). `Pointing` makes one form of all: the path with its first part. Source: fal's clients 0.15.0 and 1.10.1
(JavaScript) and 1.0.3 (Python).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers

from idefics2_service.rest.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

PROXY_PATH = "/api/fal/proxy"
SERVICES = ("run", "queue", "rest", "cdn")
FAL_HOSTS = {
    "fal.run": "run",
    "queue.fal.run": "queue",
    "rest.fal.ai": "rest",
    "rest.alpha.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "falrun.com": "run",
    "queue.falrun.com": "queue",
}
"""What clients call where nothing else is set; the last two are where Python's goes when the others fail."""
_FAL_BASES = {"run": "fal.run", "queue": "queue.fal.run", "rest": "rest.fal.ai", "cdn": "v3.fal.media"}
_LABELS = {"queue": "queue", "rest": "rest", "v3": "cdn"}
_OWN_PATHS = ("", "healthz", "metrics", ".well-known", "openapi.json", "page")
"""First parts of paths that are of no service."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Origin:
    """Writes URLs that work the way a call came in."""

    bases: Mapping[str, str]
    """Of each service."""

    def url(self, service: str, path: str) -> str:
        """Return the absolute URL of a service's path, which begins without a slash."""
        return f"{self.bases[service]}/{path}"


class Pointing:
    """Reads out of each call what it means, and hands on one form."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        """Stand before `app`; where `public_url` is set, returned URLs begin with it."""
        self._app = app
        self._public_url = public_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            pointed = self._point(scope, Headers(scope=scope))
            _check_characters(pointed)
        except Problem as problem:  # told where every call is answered and counted
            pointed = _rewrite(scope, self._prefixed(""), PROXY_PATH)
            pointed["state"]["problem"] = problem
        await self._app(pointed, receive, send)

    def _point(self, scope: Scope, headers: Headers) -> Scope:
        _check_target(scope)
        path: str = scope["path"].rstrip("/") or "/"  # clients differ in it, and not all follow a redirect
        host = headers.get("host") or "{}:{}".format(*(scope.get("server") or ("localhost", 80)))
        scheme = scope["scheme"]
        if path == PROXY_PATH:
            service, path, query = _read_target(headers.get("x-fal-target-url"))
            origin = self._prefixed(f"{scheme}://{host}")
            return _rewrite({**scope, "path": path, "query_string": query}, origin, f"/{service}{path}")
        if path.split("/")[1] in SERVICES or path.split("/")[1] in _OWN_PATHS:
            return _rewrite(scope, self._prefixed(f"{scheme}://{host}"), path)
        service, origin = self._read_host(scheme, host.lower())
        return _rewrite(scope, origin, f"/{service}{path}")

    def _read_host(self, scheme: str, host: str) -> tuple[str, Origin]:
        name = host.removesuffix(":443")
        if name in FAL_HOSTS:
            bases = {**_FAL_BASES, FAL_HOSTS[name]: name}
            return FAL_HOSTS[name], Origin({service: f"https://{base}" for service, base in bases.items()})
        label, _, base = host.partition(".")
        if label in _LABELS and not self._public_url:
            hosts = {"run": base, **{named: f"{label}.{base}" for label, named in _LABELS.items()}}
            return _LABELS[label], Origin({service: f"{scheme}://{at}" for service, at in hosts.items()})
        return _LABELS.get(label, "run"), self._prefixed(f"{scheme}://{host}")

    def _prefixed(self, base: str) -> Origin:
        return Origin({service: f"{self._public_url or base}/{service}" for service in SERVICES})


def _check_target(scope: Scope) -> None:
    """Make sure that a call names a path.

    Raises:
        Problem: it names something else, as for a proxy.

    """
    if scope["method"] == "CONNECT":
        raise Problem(400, "bad_request", "this port is no proxy; IDEFICS2_CONNECT_PORT sets which one is")
    if not scope["path"].startswith("/"):
        message = f"the target of a call must begin with a slash, not be {scope['path'][:200]!r}"
        raise Problem(400, "bad_request", message)


def _check_characters(pointed: Scope) -> None:
    """Make sure that a path means what it says: routes take one with a line break behind it for their own.

    Raises:
        Problem: it has control characters, and so does nothing that there is here.

    """
    if _CONTROLS.search(pointed["path"]):
        raise Problem(404, "not_found", f"Path {quote(pointed['state']['asked_path'])} not found")


def _read_target(target: str | None) -> tuple[str, str, bytes]:
    """Return service, path and query of the URL that a proxied call was made for.

    Raises:
        Problem: there is none, or it is none of fal's.

    """
    try:
        parts = urlsplit(target or "")
    except ValueError:  # brackets that hold no address
        parts = urlsplit("")
    host = parts.netloc.lower().removesuffix(":443")
    if parts.scheme != "https" or host not in FAL_HOSTS:
        hosts = ", ".join(sorted(FAL_HOSTS))
        message = f"x-fal-target-url must be an https URL of {hosts}, not {(target or '')[:200]!r}"
        raise Problem(400, "bad_request", message)
    return FAL_HOSTS[host], unquote(parts.path).rstrip("/"), parts.query.encode("ascii", "ignore")


def _rewrite(scope: Scope, origin: Origin, path: str) -> Scope:
    """Return a call's scope with another path, beside the one that its caller knows, and its origin."""
    return {
        **scope,
        "path": path,
        "raw_path": quote(path).encode(),
        "state": {**scope.get("state", {}), "origin": origin, "asked_path": scope["path"]},
    }

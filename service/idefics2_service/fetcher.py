"""The only way from this service to a host that a caller named.

    FetchFailed
     ├── UrlInvalid                         nothing was dialled
     ├── AddressForbidden                   the URL itself says that the host is one of ours
     ├── HostUnreachable                    no public address, no connection, no HTTP, or it broke off
     ├── FetchTimedOut                      no address, no connection, no end, or too few bytes a second
     ├── RedirectRefused                    one too many, away from TLS, or to a URL that is invalid
     ├── EncodingRefused                    the body is compressed
     ├── BodyTooLarge
     └── HostAnswered                       with a status that brings no file

Each message is a sentence that a caller may be told. Of the URL it holds the host and the port at most:
users, paths and queries may be secrets.

Nor does a message, or the time until it comes, tell what our name servers know: a name that leads inside, and
one that leads nowhere, have no public address, both. Which it was stands in the log.
"""

from __future__ import annotations

import asyncio
import re
import socket
import string
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urljoin

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from idefics2_service.addresses import is_host, is_inside, is_name, may_be_dialled
from idefics2_service.errors import let_go_of_frames
from idefics2_service.look_ups import LookUps
from idefics2_service.tracing.spans import Kind, current_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from idefics2_service.settings import FetchSettings
    from idefics2_service.tracing.spans import Value

logger = structlog.get_logger(__name__)

MAX_URL_BYTES = 2048
_LOOK_UP_SECONDS = 0.1
"""A look-up that brings nothing takes so long, or a multiple of it: the time to the end would tell why."""
_NUM_WINDOWS = 5  # of the whole time; each must bring its bytes
_HEADERS = {"User-Agent": "idefics2-serving", "Accept-Encoding": "identity"}
_REDIRECTS = (301, 302, 303, 307, 308)
_START = re.compile(r"https?://(?P<authority>[^/?#]+)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::[0-9]+)?")  # a port may bear no sign
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")  # readers of URLs do not agree on what these mean
_FORBIDDEN = "the URL's host is not public"
_FAULTS = (
    (aiohttp.ClientConnectorDNSError, "has no public address"),
    (aiohttp.ClientConnectorCertificateError, "has a certificate that is not trusted"),
    (aiohttp.ClientConnectorError, "takes no connection"),
    (aiohttp.ClientResponseError, "does not answer in HTTP"),
    (Exception, "broke the connection off"),
)


class FetchFailed(Exception):
    """There is no answer of the kind that was asked for."""


class UrlInvalid(FetchFailed):
    """The URL is not one that is ever fetched."""


class AddressForbidden(FetchFailed):
    """The host is an address that is not public, or a name of the inside, and no operator allows it."""


class HostUnreachable(FetchFailed):
    """The host cannot be talked to."""


class FetchTimedOut(FetchFailed):
    """The host takes too long."""


class RedirectRefused(FetchFailed):
    """The host sends us on once too often, or to where we do not go."""


class EncodingRefused(FetchFailed):
    """The body is compressed though we take none: its size would say nothing."""


class BodyTooLarge(FetchFailed):
    """The body has more bytes than are wanted."""


class HostAnswered(FetchFailed):
    """The host answered, but not with a file; `status` is HTTP's."""

    def __init__(self, host: str | None, status: int) -> None:
        """Say so."""
        super().__init__(f"the host {host} answered with status {status}")
        self.status = status

    @property
    def is_blocked(self) -> bool:
        """It does not give this to us."""
        return self.status in (401, 403, 451)

    @property
    def is_rate_limited(self) -> bool:
        """It was asked too often."""
        return self.status == 429  # noqa: PLR2004  # Too Many Requests

    @property
    def is_missing(self) -> bool:
        """It has no such thing."""
        return self.status in (404, 410)


@dataclass
class _Asker:
    """For whom a request is sent: aiohttp tells its resolver nothing of that."""

    key_id: str
    is_looking_up: bool = False
    """It was when the request ended, if it did."""


_asker: ContextVar[_Asker] = ContextVar("asker")


def look_up(name: str) -> list[str]:
    """Ask the system for all addresses of `name`; blocks.

    It is asked for as it stands, by a dot at its end. Only where it is of the inside is it completed by the
    domains that the system searches: else `a.default` would be a name of the cluster.

    Raises:
        OSError: there are none.

    """
    asked = name if is_inside(name) else f"{name.removesuffix('.')}."
    found = socket.getaddrinfo(asked, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]


class Fetcher:
    """An HTTP client, as an async context, that dials public addresses alone and waits for nobody long.

    Literals, names and redirects all end at `_open_socket`, which sees the address that is dialled: what
    a name meant a moment before plays no part.
    """

    def __init__(self, settings: FetchSettings, look_up: Callable[[str], list[str]] = look_up) -> None:
        """Set up; `look_up` maps a name to its addresses, in a thread."""
        self._settings = settings
        self._ports = settings.open_ports
        self._networks = settings.networks
        self._look_up = look_up
        self._window_seconds = settings.timeout_seconds / _NUM_WINDOWS
        self._window_bytes = max(1, round(settings.min_bytes_per_second * self._window_seconds))

    @property
    def timeout_seconds(self) -> float:
        """How long a request may take at most, with all that it waits for."""
        return self._settings.timeout_seconds

    async def __aenter__(self) -> Self:
        """Be ready to fetch."""
        self._resolver = _Resolver(LookUps(self._look_up), self._check_address)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._open_socket,
                use_dns_cache=False,
                force_close=True,  # each request is dialled, and so checked, anew
                limit=0,  # callers bound how many; slow hosts must not hold up the others
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_seconds),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # neither proxies nor passwords
            auto_decompress=False,
            max_line_size=8192,
            max_field_size=8192,
            max_headers=64,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what is open; fetches on the way fail."""
        await self._session.close()
        await self._resolver.close()

    async def get(self, key_id: str, url: str, max_bytes: int) -> bytes:
        """Fetch the body at `url` for a key, through redirects. Cancelling it closes the connection.

        Raises:
            FetchFailed: there is none, or it has more than `max_bytes`.

        """
        target = self._read_url(url)
        async with self._limited_time():
            for _ in range(1 + self._settings.max_redirects):
                async with self._ask("GET", key_id, target) as response:
                    location = response.headers.get("Location")
                    if response.status not in _REDIRECTS or location is None:
                        return await self._read_body(response, max_bytes)
                target = self._follow(target, location)
        raise RedirectRefused(f"the URL redirects more than {self._settings.max_redirects} times")

    async def post(self, key_id: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send `body` to `url` once for a key, and return the status of the answer, whatever it is.

        Redirects are not followed, and the answer's body is not read.

        Raises:
            FetchFailed: there is no answer. Unless it is UrlInvalid or AddressForbidden, the host may have
                `body` all the same.

        """
        target = self._read_url(url)
        content = {"data": body, "headers": headers}
        async with self._limited_time(), self._ask("POST", key_id, target, **content) as response:
            return response.status

    async def check(self, key_id: str, url: str) -> None:
        """Refuse a URL that a key can never have dialled. A name without a public address yet is not refused.

        Raises:
            FetchFailed: its form, its port, its host, or that no address of it was found in time.

        """
        target = self._read_url(url)
        host = target.raw_host or ""
        if not is_name(host):
            self._check_address(host)
            return
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                await self._resolver.find(key_id, host)
        except TimeoutError:
            raise self._not_connected(target, is_looking_up=True) from None
        except OSError:
            return

    def _read_url(self, text: str) -> URL:
        """Return the URL as it is dialled, so that no second reader can take it for another.

        Raises:
            UrlInvalid: its form, its host or its port.
            AddressForbidden: its host has a name of the inside, where no network inside is allowed.

        """
        try:
            url = _parse(text)
        except ValueError:
            raise UrlInvalid("the URL cannot be read") from None
        if not is_host(url.raw_host or ""):
            raise UrlInvalid("the URL's host is neither a name nor an address in its usual form")
        if url.port not in self._ports:
            raise UrlInvalid(f"the URL's port must be one of {self._settings.ports}, not {url.port}")
        if is_inside(url.raw_host or "") and not self._networks:
            raise AddressForbidden(_FORBIDDEN)
        return url

    def _follow(self, url: URL, location: str) -> URL:
        """Return where `location`, which came from `url`, leads."""
        try:
            target = self._read_url(urljoin(str(url), location))
        except (UrlInvalid, ValueError):
            raise RedirectRefused(f"the host {url.raw_host} redirects to an invalid URL") from None
        if (url.scheme, target.scheme) == ("https", "http"):
            raise RedirectRefused(f"the host {url.raw_host} redirects from https to http")
        return target

    def _check_address(self, address: str) -> None:
        if not may_be_dialled(address, self._networks):
            raise AddressForbidden(_FORBIDDEN)

    def _open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        self._check_address(str(address[0]))
        return socket.socket(family, kind, protocol)

    @asynccontextmanager
    async def _limited_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                yield
        except TimeoutError:
            message = f"the URL's host did not finish within {self._settings.timeout_seconds} s"
            raise FetchTimedOut(message) from None

    @asynccontextmanager
    async def _ask(
        self, method: str, key_id: str, url: URL, **content: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request for a key. What goes wrong with the answer inside is named here too."""
        with current_span().begin(method, Kind.CLIENT, _describe(method, url)) as span:
            async with self._send(_Asker(key_id), method, url, **content) as response:
                span.describe({"http.response.status_code": response.status})
                yield response

    @asynccontextmanager
    async def _send(
        self, asker: _Asker, method: str, url: URL, **content: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        _asker.set(asker)
        try:
            async with self._session.request(method, url, allow_redirects=False, **content) as response:
                yield response
        # Without the errors before: they quote whole URLs, and tracebacks are logged.
        except aiohttp.ConnectionTimeoutError:
            raise self._not_connected(url, is_looking_up=asker.is_looking_up) from None
        except (aiohttp.ClientError, OSError) as error:
            let_go_of_frames(error)  # aiohttp keeps it, and they hold what came of the file
            fault = next(fault for kind, fault in _FAULTS if isinstance(error, kind))
            raise HostUnreachable(f"the host {url.raw_host} {fault}") from None

    def _not_connected(self, url: URL, *, is_looking_up: bool) -> FetchTimedOut:
        fault = "was not looked up" if is_looking_up else "took no connection"
        return FetchTimedOut(
            f"the host {url.raw_host} {fault} within {self._settings.connect_timeout_seconds} s"
        )

    async def _read_body(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        host = response.url.raw_host
        if not 200 <= response.status < 300:  # noqa: PLR2004  # success
            raise HostAnswered(host, response.status)
        if any(name.lower() != "identity" for name in response.headers.getall("Content-Encoding", [])):
            raise EncodingRefused(f"the host {host} compresses the file; it must be sent as it is")
        body = bytearray()
        num_bytes = response.content_length or 0
        while num_bytes <= max_bytes:
            piece = await self._read_piece(response, max_bytes + 1 - len(body))
            if not piece:
                return bytes(body)
            body += piece
            num_bytes = len(body)
        raise BodyTooLarge(f"the file has more than {max_bytes} bytes")

    async def _read_piece(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        """Read what one window must bring, or less at the end."""
        try:
            async with asyncio.timeout(self._window_seconds):
                return await response.content.readexactly(min(self._window_bytes, max_bytes))
        except asyncio.IncompleteReadError as end:
            return end.partial
        except TimeoutError:
            rate = self._settings.min_bytes_per_second
            message = f"the host {response.url.raw_host} sends less than {rate} bytes a second"
            raise FetchTimedOut(message) from None


class _Resolver(AbstractResolver):
    """Finds no address for a name if any of them is refused: which one is dialled is left to chance."""

    def __init__(self, look_ups: LookUps, check: Callable[[str], None]) -> None:
        self._look_ups = look_ups
        self._check = check

    async def find(self, key_id: str, name: str) -> list[str]:
        """Return the addresses of a name, for a key.

        Raises:
            AddressForbidden: it is a name of the inside, and has none, or one that may not be dialled.
            OSError: the same of any other name.

        """
        began = asyncio.get_running_loop().time()
        try:
            addresses = await self._look_ups.find(key_id, name)
            for address in addresses:
                self._check(address)
        except AddressForbidden:
            logger.warning("a name leads inside and is not dialled", host=name, key_id=key_id)
        except OSError:
            logger.info("a name has no address", host=name, key_id=key_id)
        else:
            return addresses
        await _even_out(began)
        if is_inside(name):
            raise AddressForbidden(_FORBIDDEN)
        raise OSError("no public address")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        asker = _asker.get()
        asker.is_looking_up = True
        addresses = await self.find(asker.key_id, host)
        asker.is_looking_up = False
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        self._look_ups.close()


async def _even_out(began: float) -> None:
    """Wait until a multiple of `_LOOK_UP_SECONDS` is over since the loop's time was `began`."""
    seconds = asyncio.get_running_loop().time() - began
    await asyncio.sleep(_LOOK_UP_SECONDS - seconds % _LOOK_UP_SECONDS)


def _describe(method: str, url: URL) -> dict[str, Value]:
    """Say where a request goes, without what may be a secret: who may read a file, its path may tell."""
    return {
        "http.request.method": method,
        "server.address": url.raw_host or "",
        "server.port": url.port or 0,
        "url.scheme": url.scheme,
    }


def _parse(text: str) -> URL:
    """Parse what needs no mending. Only characters beyond ASCII are escaped: a signature covers the rest.

    Raises:
        UrlInvalid: it would have to be mended, or is too long.
        ValueError: it has no host, no port, or half a character.

    """
    start = _START.match(text)
    if start is None:
        raise UrlInvalid("the URL does not begin with http:// or https:// and a host")
    if "@" in start["authority"]:
        raise UrlInvalid("the URL holds a user or a password")
    if not _AUTHORITY.fullmatch(start["authority"]):
        raise UrlInvalid("the URL's host and port are not written as host:port")
    if _UNSAFE.search(text):
        raise UrlInvalid("the URL holds a space, a control character or a backslash")
    if (num_bytes := len(text.encode())) > MAX_URL_BYTES:
        raise UrlInvalid(f"the URL has {num_bytes} bytes; at most {MAX_URL_BYTES} are allowed")
    path = quote(text[start.end() :], safe=string.punctuation)
    return URL(f"{URL(start[0]).origin()}{path}", encoded=True)

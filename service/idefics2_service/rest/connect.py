"""A proxy that ends TLS for fal's host names, and leads nowhere else.

Who sets `HTTPS_PROXY` to it and trusts its certificate calls this service instead of the hosted endpoint,
without a change in a program.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import structlog

from idefics2_service.rest.credentials import make_context
from idefics2_service.rest.origins import FAL_HOSTS
from idefics2_service.rest.ports import bind

if TYPE_CHECKING:
    import ssl

    from idefics2_service.rest.server import HttpServer
    from idefics2_service.settings import ConnectSettings
    from idefics2_service.tls import Certificates

logger = structlog.get_logger(__name__)

_HEAD_SECONDS = 10.0
"""How long a caller may take to say where it wants to go, and then to agree on TLS."""
_MAX_HEAD_BYTES = 8192
_REQUEST = re.compile(rb"CONNECT ([^ :]+):(\d+) HTTP/1\.[01]\r\n(?:[^\r\n]+\r\n)*\r\n")
_WELCOME = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSAL = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"


class ConnectServer:
    """One listening server, in front of the HTTP port's own protocol."""

    def __init__(self, settings: ConnectSettings, http: HttpServer, certificates: Certificates) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            StartFailed: the port is taken, or the host is no address of this machine.

        """
        self._socket = bind("connect", settings)
        self.address = f"{settings.url_host}:{self._socket.getsockname()[1]}"
        self._http = http
        self._context = make_context(certificates)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answer; the HTTP server has been started before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Tunnel(self._http, self._context), sock=self._socket)

    def close(self) -> None:
        """Take no more connections; those that are open are the HTTP server's."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Close the port."""
        self.close()
        self._socket.close()


class _Tunnel(asyncio.Protocol):
    """One connection, until it is handed on."""

    def __init__(self, http: HttpServer, context: ssl.SSLContext) -> None:
        self._http = http
        self._context = context
        self._head = b""
        self._upgrade: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(_HEAD_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self._patience.cancel()

    def data_received(self, data: bytes) -> None:
        self._head += data
        asked = _REQUEST.fullmatch(self._head)
        if asked is not None:
            self._take(asked[1].decode("ascii", "replace").lower(), asked[2])
        elif b"\r\n\r\n" in self._head or len(self._head) > _MAX_HEAD_BYTES:
            self._refuse(b"400 Bad Request", "this is a proxy: it takes CONNECT host:443")

    def _take(self, host: str, port: bytes) -> None:
        if host not in FAL_HOSTS or port != b"443":  # the one that clients dial
            self._refuse(
                b"403 Forbidden", f"this proxy leads to {', '.join(sorted(FAL_HOSTS))}, port 443, only"
            )
            return
        self._transport.pause_reading()  # what follows is TLS's
        self._transport.write(_WELCOME)
        self._upgrade = asyncio.create_task(self._hand_on())

    async def _hand_on(self) -> None:
        """Agree on TLS, and let the HTTP server's protocol go on, if calls are still taken."""
        if self._transport.is_closing():  # the caller left: nobody would ever be told of TLS's end
            return
        early = _Early()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                early,
                self._context,
                server_side=True,
                ssl_handshake_timeout=_HEAD_SECONDS,
            )
        except OSError as error:  # a caller who does not trust us, among others
            logger.info("no TLS through CONNECT", error=str(error))
            self._transport.abort()
            return
        finally:
            self._patience.cancel()
        if transport is None or early.is_lost:
            return
        if self._http.is_open:
            early.hand_on(transport, self._http.make_protocol())
        else:
            transport.close()

    def _refuse(self, status: bytes, message: str) -> None:
        body = message.encode() + b"\n"
        self._transport.write(_REFUSAL % (status, len(body), body))
        self._transport.close()


class _Early(asyncio.Protocol):
    """Keeps what comes with the last word of the agreement on TLS, before anybody was told of its end."""

    def __init__(self) -> None:
        self._data = b""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self.is_lost = True

    def hand_on(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Let `protocol` go on, from the first byte."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data:
            protocol.data_received(self._data)

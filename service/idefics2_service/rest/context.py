"""TLS of the HTTP port: each new connection gets the certificate that lies there then."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from idefics2_service.tls import Certificates

logger = structlog.get_logger(__name__)


def make_context(certificates: Certificates) -> ssl.SSLContext:
    """Serve with `certificates`; where they name who vouches for clients, those without one are refused."""
    context = current = _load(certificates)

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if certificates.renew():
            try:
                current = _load(certificates)
            except (OSError, ssl.SSLError):  # replaced again since it was looked at: the next one looks again
                logger.exception("certificates stay as they were")
        connection.context = current

    context.sni_callback = renew  # called at the beginning of each handshake, name or not
    return context


def _load(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate_path, certificates.key_path)
    if certificates.pems.client_ca is not None:
        context.load_verify_locations(cadata=certificates.pems.client_ca.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context

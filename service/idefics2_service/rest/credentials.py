"""TLS of the HTTP port: each new connection gets the certificate that was last read."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idefics2_service.tls import Certificates, Pems


def make_context(certificates: Certificates) -> ssl.SSLContext:
    """Serve with `certificates`; where they name who vouches for clients, those without one are refused."""
    context = current = _load(certificates, certificates.pems)

    def use(pems: Pems) -> None:
        nonlocal current
        current = _load(certificates, pems)

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = current

    certificates.let_use(use)
    context.sni_callback = choose  # called at the beginning of each handshake, name or not
    return context


def _load(certificates: Certificates, pems: Pems) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate_path, certificates.key_path)  # it takes files alone
    if pems.client_ca is not None:
        context.load_verify_locations(cadata=pems.client_ca.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context

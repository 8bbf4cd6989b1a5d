"""TLS of the HTTP port: each new connection gets the certificate that was last read."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idefics2_service.tls import Certificates, Pems


class _CurrentContext(ssl.SSLContext):
    """Stands for the context that was made last, where asyncio wants one for all connections.

    A connection is that one's from its beginning, and resumes no session of those before, which would let
    callers in without a look at who vouches for them by now.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **given: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **given)


def make_context(certificates: Certificates) -> ssl.SSLContext:
    """Serve with `certificates`; where they name who vouches for clients, those without one are refused."""
    context = _CurrentContext(ssl.PROTOCOL_TLS_SERVER)

    def use(pems: Pems) -> None:
        context.current = _load(certificates, pems)

    use(certificates.pems)
    certificates.let_use(use)
    return context


def _load(certificates: Certificates, pems: Pems) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate_path, certificates.key_path)  # it takes files alone
    if pems.client_ca is not None:
        context.load_verify_locations(cadata=pems.client_ca.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context

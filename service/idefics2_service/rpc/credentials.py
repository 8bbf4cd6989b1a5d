"""TLS of the gRPC port: each new connection gets the certificate that was last read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from idefics2_service.tls import Certificates, Pems


def make_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Serve with `certificates`; where they name who vouches for clients, those without one are refused."""
    used = certificates.pems

    def fetch() -> grpc.ServerCertificateConfiguration | None:  # grpc calls it before each handshake
        nonlocal used
        before, used = used, certificates.pems
        return None if used is before else _configure(used)

    return grpc.dynamic_ssl_server_credentials(
        _configure(used),
        fetch,  # type: ignore[arg-type]  # the stubs lack None, which is no change
        require_client_authentication=used.client_ca is not None,
    )


def _configure(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.client_ca)

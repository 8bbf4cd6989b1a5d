"""TLS of the gRPC port: each new connection gets the certificate that lies there then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from idefics2_service.tls import Certificates, Pems


def make_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Serve with `certificates`; where they name who vouches for clients, those without one are refused."""

    def fetch() -> grpc.ServerCertificateConfiguration | None:  # grpc calls it before each handshake
        return _configure(certificates.pems) if certificates.renew() else None

    return grpc.dynamic_ssl_server_credentials(
        _configure(certificates.pems),
        fetch,  # type: ignore[arg-type]  # the stubs lack None, which is no change
        require_client_authentication=certificates.pems.client_ca is not None,
    )


def _configure(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.client_ca)

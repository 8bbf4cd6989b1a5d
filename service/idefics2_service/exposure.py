"""What other machines can reach: only with TLS and keys, unless an operator says otherwise by name."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from idefics2_service.errors import SettingInvalid

if TYPE_CHECKING:
    from idefics2_service.settings import PortSettings, Settings


def check_exposure(settings: Settings, num_keys: int) -> None:
    """Look at the addresses that are to be listened on.

    Raises:
        SettingInvalid: one is not this machine's alone, and has no TLS, or nobody has a key; or one leads
            past what another demands.

    """
    _check_port("GRPC", settings.grpc, num_keys, has_tls=settings.grpc.has_tls)
    _check_port("HTTP", settings.http, num_keys, has_tls=settings.http.has_tls)
    if settings.connect.port is None:
        return
    # Where it is given no certificate, it makes one.
    _check_port("CONNECT", settings.connect, num_keys, has_tls=True)
    if settings.http.tls_client_ca_file and not settings.connect.tls_client_ca_file:
        message = (
            "IDEFICS2_CONNECT_PORT: whoever comes in there needs no certificate, as the HTTP port demands by "
            "IDEFICS2_HTTP_TLS_CLIENT_CA_FILE: set IDEFICS2_CONNECT_TLS_CLIENT_CA_FILE, too"
        )
        raise SettingInvalid(message)


def _check_port(name: str, port: PortSettings, num_keys: int, *, has_tls: bool) -> None:
    if is_loopback(port.host) or port.allow_insecure:
        return
    reached = f"IDEFICS2_{name}_HOST: other machines reach {port.host}"
    otherwise = f"or say IDEFICS2_{name}_ALLOW_INSECURE=true"
    if not has_tls:
        files = f"IDEFICS2_{name}_TLS_CERTIFICATE_FILE and IDEFICS2_{name}_TLS_KEY_FILE"
        raise SettingInvalid(f"{reached}, and there is no TLS: set {files}, {otherwise}")
    if not num_keys:
        raise SettingInvalid(
            f"{reached}, and there are no keys: make one by `idefics2-service keys create`, {otherwise}"
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address; of a name other than `localhost`, nobody knows."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False

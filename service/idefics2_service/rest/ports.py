"""Binding the ports of this face."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from idefics2_service.errors import StartFailed

if TYPE_CHECKING:
    from idefics2_service.settings import PortSettings

MAX_UNSENT_BYTES = 16_384
"""What the system takes of an answer before its caller takes it.

Else the system takes 4 MB for each who does not read, and who writes a file to it takes that for reading.
"""
_FAULTS_OF_PORT = (errno.EADDRINUSE, errno.EACCES)
"""With any other, it is the address that cannot be had."""


def bind(section: str, settings: PortSettings) -> socket.socket:
    """Listen where a section of settings says: at `::` for IPv4, too, where the system can.

    Raises:
        StartFailed: the port is taken, or the host is no address of this machine; the message names it.

    """
    is_ipv6 = ":" in settings.host
    try:
        listening = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        name = "PORT" if error.errno in _FAULTS_OF_PORT else "HOST"
        where = f"{settings.url_host}:{settings.port}"
        message = f"IDEFICS2_{section.upper()}_{name}: cannot listen on {where}: {error.strerror}"
        raise StartFailed(message) from error
    # What is accepted has both, too: a caller whose machine is gone is found out.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    return listening

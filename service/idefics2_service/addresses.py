"""Which hosts a caller may have us dial: public ones, and what the operator allows; and who shares as one."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A table of our own: `is_global` takes addresses for public that lead inside, and moves with Python.
_NOT_PUBLIC = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT; some clouds keep their metadata there
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's agent of the host: looks public, answers inside
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
# All that is handed out to hosts. Outside: private, link-local, site-local, multicast, discard, local NAT64.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

# Blocks of IPv6 that carry an IPv4 address, and how many bits follow it.
_CARRIERS = (
    (IPv6Network("::/96"), 0),  # "compatible", long given up
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped: the kernel dials IPv4
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
# The last label begins with no digit: 0x7f.1, 0177.0.0.1 and 2130706433 are addresses in disguise.
_NAME = re.compile(r"(?=.{1,254}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z_][a-z0-9_-]{0,62}\.?")
# Names that no public name server knows: of one label; of this host, a cluster, a home or an office.
_INSIDE = re.compile(
    r"([^.:]+|(.+\.)?(localhost|localdomain|local|internal|svc|intranet|private|corp|home|lan|home\.arpa))\.?"
)


def is_host(text: str) -> bool:
    """Tell whether `text` is a name in ASCII, or an address in the one form that all readers read alike."""
    if is_name(text):
        return True
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def is_name(text: str) -> bool:
    """Tell whether `text`, which is a host, is a name and not an address."""
    return _NAME.fullmatch(text) is not None


def is_inside(host: str) -> bool:
    """Tell whether a host is a name that, by its form alone, can only be of our own network."""
    return _INSIDE.fullmatch(host) is not None


def may_be_dialled(text: str, allowed: Collection[Network] = ()) -> bool:
    """Judge the address `text`, written as sockets and look-ups write it; `allowed` overrules the table.

    An IPv6 address that carries an IPv4 address is judged by the latter.

    Raises:
        ValueError: it is not an address, or written in a form that hides which.

    """
    written = ip_address(text)
    address = _unwrap(written)
    if any(form in network for form in (written, address) for network in allowed):
        return True
    return _is_public(address)


def find_neighbourhood(text: str) -> str:
    """Return what shares as one caller: an IPv4 address, or the /64 that whoever has an IPv6 one has all of.

    What is no address is its own.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))
    return str(address)


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that is carried, or else the address itself."""
    for block, num_bits_after in _CARRIERS:
        if address in block:
            return IPv4Address(int(address) >> num_bits_after & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:  # noqa: PLR2004  # IPv6
        return False
    return not any(address in block for block in _NOT_PUBLIC)

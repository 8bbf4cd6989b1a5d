"""Addresses: what leads inside is never dialled, however it is written; what is public is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from idefics2_service.addresses import find_neighbourhood, is_host, is_inside, is_name, may_be_dialled

# The first and the last address of each block, and the neighbours that are public.
BLOCKS = [
    ("0.0.0.0/8", None, "1.0.0.0"),
    ("10.0.0.0/8", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0/10", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0/8", "126.255.255.255", "128.0.0.0"),
    ("168.63.129.16/32", "168.63.129.15", "168.63.129.17"),
    ("169.254.0.0/16", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0/12", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0/24", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0/24", "192.0.1.255", "192.0.3.0"),
    ("192.88.99.0/24", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0/16", "192.167.255.255", "192.169.0.0"),
    ("198.18.0.0/15", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0/24", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0/24", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0/4", "223.255.255.255", None),
    ("240.0.0.0/4", None, None),
    ("64:ff9b:1::/48", None, None),
    ("100::/64", None, None),
    ("2001::/23", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
    ("2001:db8::/32", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
    ("3fff::/20", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
    ("4000::/2", None, None),
    ("5f00::/16", None, None),
    ("fc00::/7", None, None),
    ("fe80::/10", None, None),
    ("fec0::/10", None, None),
    ("ff00::/8", None, None),
]
INSIDE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.100.100.200", "0.0.0.0"]  # noqa: S104  # never listened on


def carriers(address: str) -> list[str]:
    """Write an IPv4 address in every way in which an IPv6 address can carry it."""
    bits = int(IPv4Address(address))
    prefixes = ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"]
    carried = [IPv6Address(int(IPv6Address(prefix)) | bits) for prefix in prefixes]
    six_to_four = int(IPv6Address("2002::")) | bits << 80
    return [str(form) for form in (*carried, IPv6Address(six_to_four), IPv6Address(six_to_four | 1))]


@pytest.mark.parametrize(("block", "before", "after"), BLOCKS)
def test_a_block_is_refused_to_its_edges_and_no_further(
    block: str, before: str | None, after: str | None
) -> None:
    network = ip_network(block)
    assert not may_be_dialled(str(network[0]))
    assert not may_be_dialled(str(network[-1]))
    assert not may_be_dialled(str(network[network.num_addresses // 2]))
    assert all(may_be_dialled(neighbour) for neighbour in (before, after) if neighbour)


@pytest.mark.parametrize("address", INSIDE)
def test_an_ipv6_address_that_carries_an_address_inside_is_refused(address: str) -> None:
    assert not any(may_be_dialled(form) for form in carriers(address))


def test_an_ipv6_address_that_carries_a_public_address_is_public() -> None:
    assert all(may_be_dialled(form) for form in carriers("8.8.8.8"))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::",
        "2001:0:7f00:1::",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "fe80::1%2",
        "::1:0:0",
        "200::1",
    ],
)
def test_well_known_ways_around_are_refused(address: str) -> None:
    assert not may_be_dialled(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert may_be_dialled(address)


def test_an_operator_allows_networks_and_nothing_beside_them() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    for address in ("10.1.0.0", "10.1.255.255", "fd12::1", "::ffff:10.1.2.3", "8.8.8.8", "2606:4700::1111"):
        assert may_be_dialled(address, allowed)
    for address in ("10.0.255.255", "10.2.0.0", "fc00::1", "::1", "127.0.0.1", "::ffff:10.2.0.0"):
        assert not may_be_dialled(address, allowed)


def test_an_operator_may_allow_the_loopback_of_ipv6() -> None:
    assert may_be_dialled("::1", [ip_network("::1/128")])
    assert not may_be_dialled("127.0.0.1", [ip_network("::1/128")])


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "1.1.1.1."]
)
def test_what_is_no_address_in_its_usual_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        may_be_dialled(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a.example",
        "a.example.",
        "1.a-b.example",
        "_x.minio-0.svc",
        "xn--bcher-kva.example",
        "a" * 63 + ".b",
        ".".join(["a" * 62] * 4),
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
    ],
)
def test_a_name_and_an_address_are_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a..",
        "a" * 64 + ".b",
        "b." + "a" * 64,
        ".".join(["a" * 62] * 4) + ".aaa",
        "a b",
        "a%2eb",
        "a\n",
        "bücher.example",
        "A.example",
        "1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "127.0.0.256",
        "1.2.3.4.5",
        "a.0x1",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "[::1]",
    ],
)
def test_everything_else_is_none(text: str) -> None:
    assert not is_host(text)


@pytest.mark.parametrize(
    "name",
    [
        "redis",
        "redis.",
        "localhost",
        "a.localhost",
        "localhost.localdomain",
        "metadata.google.internal",
        "printer.local",
        "kubernetes.default.svc",
        "db.prod.svc.cluster.local.",
        "nas.home.arpa",
        "intranet.corp",
    ],
)
def test_a_name_that_no_public_name_server_knows_is_of_the_inside(name: str) -> None:
    assert is_host(name)
    assert is_name(name)
    assert is_inside(name)


@pytest.mark.parametrize(
    "host", ["a.example", "local.example", "mylocal.example.", "a.notlocal", "1.1.1.1", "::1", "fe80::1"]
)
def test_no_other_host_is(host: str) -> None:
    assert not is_inside(host)


@pytest.mark.parametrize("host", ["1.1.1.1", "::1", "::ffff:1.1.1.1"])
def test_an_address_is_no_name(host: str) -> None:
    assert not is_name(host)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::2"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("", ""),
    ],
)
def test_all_addresses_of_one_host_share_as_one_caller(one: str, other: str) -> None:
    assert find_neighbourhood(one) == find_neighbourhood(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("unix:/a", "unix:/b"),
    ],
)
def test_callers_of_different_networks_share_as_two(one: str, other: str) -> None:
    assert find_neighbourhood(one) != find_neighbourhood(other)

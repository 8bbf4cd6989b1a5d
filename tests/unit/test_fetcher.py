"""Fetching: nothing inside is ever dialled, nobody waits long, and no secret is repeated."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import ClientRequest
from certificates import Identity
from idefics2_service.errors import SettingInvalid
from idefics2_service.fetcher import (
    AddressForbidden,
    BodyTooLarge,
    EncodingRefused,
    Fetcher,
    FetchFailed,
    FetchTimedOut,
    HostAnswered,
    HostUnreachable,
    RedirectRefused,
    UrlInvalid,
    look_up,
)
from idefics2_service.settings import FetchSettings, Settings
from structlog.testing import capture_logs
from turns import let_others_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    LookUp = Callable[[str], list[str]]

HOST, INSIDE = "127.0.0.1", "127.0.0.2"
KEY = "anna"


class Host:
    """Gives one answer after the other, and keeps what it was asked."""

    def __init__(
        self,
        *answers: bytes,
        address: str = HOST,
        port: int = 0,
        thinks_seconds: float = 0,
        stalls: bool = False,
        drips: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Set up; with a `context`, it speaks TLS.

        At the end of an answer it hangs up, or `stalls`, or `drips` one byte after the other.

        It takes `thinks_seconds` before each answer.
        """
        self._answers = list(answers)
        self._address, self.port = address, port
        self._context = context
        self._thinks_seconds = thinks_seconds
        self._stalls, self._drips = stalls, drips
        self._tasks: list[asyncio.Task[None]] = []
        self.asked = asyncio.Event()
        self.requests: list[bytes] = []
        self.num_connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._address, self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{self._address}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.wait_until_closed()

    async def wait_until_closed(self) -> None:
        """Return when whoever was connected let go."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), 10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self.requests.append(head + await reader.readexactly(int(length or 0)))
        self.asked.set()
        await asyncio.sleep(self._thinks_seconds)
        if self._answers:
            writer.write(self._answers.pop(0))
        while self._drips and not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await let_others_run()
        if self._stalls:
            await reader.read()


@pytest.fixture
async def canary() -> AsyncIterator[Host]:
    """A host inside, which must not be dialled."""
    async with Host(address=INSIDE) as host:
        yield host
        assert host.num_connections == 0


def answer(body: bytes = b"", status: int = 200, *headers: str, has_length: bool = True) -> bytes:
    """Write an answer in HTTP."""
    length = [f"Content-Length: {len(body)}"] if has_length else []
    return "\r\n".join([f"HTTP/1.1 {status} X", *length, *headers, "", ""]).encode() + body


def redirect(location: str, status: int = 302, *headers: str) -> bytes:
    return answer(b"elsewhere", status, f"Location: {location}", *headers)


def fetcher_for(*hosts: Host, look_up: LookUp = lambda _: [HOST], **settings: Any) -> Fetcher:
    """Make a fetcher that may dial `HOST`, and would dial all ports that are used here."""
    ports = ",".join(str(host.port) for host in hosts)
    return Fetcher(FetchSettings(**{"ports": ports, "allowed_networks": HOST, **settings}), look_up)


def know_nothing(name: str) -> list[str]:
    """Look up a name that nobody has."""
    raise socket.gaierror(socket.EAI_NONAME, f"no {name}")


async def fetch(host: Host, path: str = "/", max_bytes: int = 1000, **settings: Any) -> bytes:
    async with fetcher_for(host, **settings) as fetcher:
        return await fetcher.get(KEY, host.url + path, max_bytes)


async def fail(kind: type[FetchFailed], fetching: Any) -> str:
    """Return what is said when `fetching` fails, as it must, by `kind` and without a secret."""
    with pytest.raises(FetchFailed) as caught:
        await fetching
    assert type(caught.value) is kind, caught.value
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


async def test_a_file_is_fetched_with_nothing_of_ours_but_a_name() -> None:
    async with Host(answer(b"picture")) as host:
        assert await fetch(host, "/a/../%7eb%20ö//?x=%2f+|&y=é#part") == b"picture"
    lines = host.requests[0].decode().splitlines()
    assert lines[0] == "GET /a/../%7eb%20%C3%B6//?x=%2f+|&y=%C3%A9 HTTP/1.1"
    assert sorted(lines[1:-1]) == [
        "Accept-Encoding: identity",
        "Accept: */*",
        "Connection: close",
        f"Host: {HOST}:{host.port}",
        "User-Agent: idefics2-serving",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://{inside}:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST:{port}/",
        "http://localhost.:{port}/",
        "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
        "http://１２７.０.０.２:{port}/",
        "http://127。0。0。2:{port}/",
        "http://①②⑦.⓪.⓪.②:{port}/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://[0:0:0:0:0:0:0:1]:{port}/",
        "http://[::127.0.0.2]:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://[::ffff:7f00:2]:{port}/",
        "http://[::ffff:0:127.0.0.2]:{port}/",
        "http://[64:ff9b::127.0.0.2]:{port}/",
        "http://[64:ff9b:1::7f00:2]:{port}/",
        "http://[2002:7f00:2::]:{port}/",
        "http://[fe80::1]:{port}/",
        "http://[fd00:ec2::254]:{port}/latest/meta-data/",
        "http://0.0.0.0:{port}/",
        "http://10.0.0.1:{port}/",
        "http://169.254.169.254:{port}/latest/meta-data/",
        "http://[::ffff:169.254.169.254]:{port}/",
        "http://100.100.100.200:{port}/latest/meta-data/",
        "http://168.63.129.16:{port}/machine",
        "http://metadata.google.internal:{port}/computeMetadata/v1/",
    ],
)
async def test_whatever_leads_inside_is_not_dialled(url: str, canary: Host) -> None:
    target = url.format(inside=INSIDE, port=canary.port) + "?secret"
    async with fetcher_for(canary, look_up=lambda _: [INSIDE]) as fetcher:
        for fetching in (fetcher.get(KEY, target, 1000), fetcher.post(KEY, target, b"", {})):
            assert await fail(AddressForbidden, fetching) == "the URL's host is not public"


@pytest.mark.parametrize(
    "host", ["127.0.0.2.nip.example", "bücher.example", "kubernetes.default", "name.example."]
)
async def test_nobody_is_told_whether_a_name_leads_inside_or_nowhere(host: str, canary: Host) -> None:
    told = {}
    clock = asyncio.get_running_loop().time
    for ask in (lambda _: [INSIDE], lambda _: [HOST, INSIDE], know_nothing):
        async with fetcher_for(canary, look_up=ask) as fetcher:
            url = f"http://{host}:{canary.port}/?secret"
            with capture_logs() as lines:
                for fetching in (fetcher.get(KEY, url, 1000), fetcher.post(KEY, url, b"", {})):
                    began = clock()
                    told[await fail(HostUnreachable, fetching)] = lines
                    assert clock() - began >= 0.1
                began = clock()
                await fetcher.check(KEY, url)
                assert clock() - began >= 0.1
        events = [line["event"] for line in lines]
        known = "a name has no address" if ask is know_nothing else "a name leads inside and is not dialled"
        assert events == [known] * 3
    (said,) = told
    assert said.endswith(" has no public address")


@pytest.mark.parametrize(
    "name",
    [
        "redis",
        "redis.",
        "LOCALHOST",
        "a.localhost",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "db.svc",
        "db.prod.svc.cluster.local",
        "nas.lan",
    ],
)
async def test_a_name_of_the_inside_is_not_even_looked_up(name: str) -> None:
    names: list[str] = []

    def remember(name: str) -> list[str]:
        names.append(name)
        return ["1.1.1.1"]

    async with Fetcher(FetchSettings(), remember) as fetcher:
        url = f"http://{name}/?secret"
        for fetching in (fetcher.get(KEY, url, 1), fetcher.post(KEY, url, b"", {}), fetcher.check(KEY, url)):
            assert await fail(AddressForbidden, fetching) == "the URL's host is not public"
    assert names == []


async def test_a_name_of_the_inside_that_nobody_knows_is_no_other_than_one_that_may_not_be_dialled() -> None:
    async with Host(answer(b"picture")) as host:
        url = f"http://redis:{host.port}/"
        for ask in (lambda _: [INSIDE], know_nothing):
            async with fetcher_for(host, look_up=ask) as fetcher:
                for fetching in (fetcher.get(KEY, url, 1000), fetcher.check(KEY, url)):
                    assert await fail(AddressForbidden, fetching) == "the URL's host is not public"
        async with fetcher_for(host) as fetcher:
            assert await fetcher.get(KEY, url, 1000) == b"picture"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("name.example", "name.example."),
        ("name.example.", "name.example."),
        ("kubernetes.default", "kubernetes.default."),
        ("redis", "redis"),
        ("db.prod.svc", "db.prod.svc"),
    ],
)
def test_only_a_name_of_the_inside_is_searched_for_in_the_systems_domains(
    name: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(name: str, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST if name == asked else INSIDE, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert look_up(name) == [HOST]


@pytest.mark.parametrize("dot", ["", "."])
async def test_a_host_over_tls_is_asked_for_and_must_show_a_certificate_by_the_name_of_the_url(
    dot: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str | None] = []
    root = Identity.make("root")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(*Identity.make("service", root, ["name.example"]).write(tmp_path))
    trusting = ssl.create_default_context(cadata=root.certificate_pem.decode())
    serving.sni_callback = lambda _, name, __: asked.append(name)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    async with Host(answer(b"picture"), context=serving) as host, fetcher_for(host) as fetcher:
        url = f"https://name.example{dot}:{host.port}/"
        assert await fetcher.get(KEY, url, 1000) == b"picture"
        said = await fail(HostUnreachable, fetcher.get(KEY, f"https://other.example{dot}:{host.port}/", 1000))
        assert said == f"the host other.example{dot} has a certificate that is not trusted"
    assert asked == ["name.example", "other.example"]
    assert f"\r\nHost: name.example:{host.port}\r\n".encode() in host.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706434:{port}/",
        "http://0x7f000002:{port}/",
        "http://0x7f.2:{port}/",
        "http://0X7F.0x0.0x0.0x2:{port}/",
        "http://017700000002:{port}/",
        "http://0177.0.0.2:{port}/",
        "http://0177.0.0.0x2:{port}/",
        "http://127.2:{port}/",
        "http://127.0.2:{port}/",
        "http://127.0.0.02:{port}/",
        "http://127.0.0.2.:{port}/",
        "http://127.0.0.2..:{port}/",
        "http://１２７.２:{port}/",
        "http://4294967296:{port}/",
        "http://127%2e0.0.2:{port}/",
        "http://127.0.0.2%00.example:{port}/",
        "http://[fe80::1%25eth0]:{port}/",
        "http://[127.0.0.2]:{port}/",
        "http://public.example@127.0.0.2:{port}/",
        "http://@127.0.0.2:{port}/",
        "http://user:secret@127.0.0.2:{port}/",
        "http://127.0.0.2:{port}@public.example/",
        "http://127.0.0.2:{port}\\@public.example/",
        "http://public.example\\@127.0.0.2:{port}/",
        "http:\\\\127.0.0.2:{port}\\",
        "http:/127.0.0.2:{port}/",
        "http:127.0.0.2:{port}/",
        "http:///127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "127.0.0.2:{port}/",
        "http://127.0.0.2:{port} .public.example/",
        "http://127.0.0.2:{port}\t/",
        "http://127.0.0.2:{port}/\r\nX-Key:\u0020y",
        " http://127.0.0.2:{port}/",
        "\x01http://127.0.0.2:{port}/",
        "http://127.0.0.2:{port}:80/",
        "http://:{port}/",
        "http://127.0.0.2:+{port}/",
        "http://public.example:/",
        "http://a..b:{port}/",
        "http://e\u200bvil.example:{port}/",
        "http://\udcff:{port}/",
        "http://public.example:{port}/\udcff",
        "http://" + "ä" * 64 + ".example:{port}/",
        "ftp://127.0.0.2:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.2:{port}/_",
        "unix:///run/docker.sock",
        "javascript:alert(1)",
        "data:,x",
        "",
        "http://127.0.0.2:22/",
        "http://127.0.0.2/",
        "https://public.example:8443/",
        "http://public.example:0/",
        "http://public.example:65536/",
    ],
)
async def test_a_url_of_a_form_that_readers_disagree_on_is_not_even_looked_up(url: str, canary: Host) -> None:
    names: list[str] = []

    def remember(name: str) -> list[str]:
        names.append(name)
        return [INSIDE]

    target = url.format(port=canary.port) + "?secret"
    async with fetcher_for(canary, look_up=remember) as fetcher:
        await fail(UrlInvalid, fetcher.get(KEY, target, 1000))
        await fail(UrlInvalid, fetcher.post(KEY, target, b"", {}))
    assert names == []


async def test_without_an_operator_s_word_only_public_hosts_and_the_usual_ports_are_dialled() -> None:
    async with Host() as host, Fetcher(FetchSettings()) as fetcher:
        said = await fail(UrlInvalid, fetcher.get(KEY, host.url, 1000))
        assert said == f"the URL's port must be one of 80,443, not {host.port}"
        await fail(AddressForbidden, fetcher.get(KEY, f"http://{HOST}/", 1000))
        await fail(AddressForbidden, fetcher.get(KEY, f"https://{HOST}:80/", 1000))
    async with Host() as host, fetcher_for(host, look_up=look_up, allowed_networks="") as fetcher:
        await fail(AddressForbidden, fetcher.get(KEY, f"http://localhost:{host.port}/", 1000))
    assert host.num_connections == 0


@pytest.mark.parametrize("addresses", [[HOST, INSIDE], [INSIDE, HOST], [HOST, "::1"], [HOST, "fe80::1%eth0"]])
async def test_a_name_is_refused_if_any_of_its_addresses_is(addresses: list[str]) -> None:
    async with Host() as host, fetcher_for(host, look_up=lambda _: addresses) as fetcher:
        await fail(HostUnreachable, fetcher.get(KEY, f"http://name.example:{host.port}/", 1000))
    assert host.num_connections == 0


async def test_a_name_that_means_something_else_the_second_time_is_refused_then() -> None:
    meanings = iter([[HOST], [INSIDE], [HOST], [INSIDE]])
    async with (
        Host(answer(b"picture"), redirect("/inside")) as host,
        Host(address=INSIDE, port=host.port) as canary,
        fetcher_for(host, look_up=lambda _: next(meanings)) as fetcher,
    ):
        url = f"http://name.example:{host.port}"
        assert await fetcher.get(KEY, url, 1000) == b"picture"
        await fail(HostUnreachable, fetcher.get(KEY, url, 1000))
        await fail(HostUnreachable, fetcher.get(KEY, url, 1000))
    assert next(meanings, None) is None
    assert (host.num_connections, canary.num_connections) == (2, 0)


async def test_the_socket_refuses_what_the_resolver_lets_pass(
    canary: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fetcher_for(canary, look_up=lambda _: [INSIDE]) as fetcher:
        monkeypatch.setattr(fetcher._resolver, "_check", lambda _: None)
        await fail(AddressForbidden, fetcher.get(KEY, f"http://name.example:{canary.port}/", 1000))


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://{inside}:{port}/", AddressForbidden),
        ("//{inside}:{port}/", AddressForbidden),
        ("http://[::ffff:{inside}]:{port}/", AddressForbidden),
        ("http://name.example:{port}/", HostUnreachable),
        ("http://redis:{port}/", AddressForbidden),
        ("http://2130706434:{port}/", RedirectRefused),
        ("http://user:secret@{inside}:{port}/", RedirectRefused),
        ("http://{inside}:22/", RedirectRefused),
        ("ftp://{inside}:{port}/secret", RedirectRefused),
        ("file:///etc/passwd?secret", RedirectRefused),
        ("data:,secret", RedirectRefused),
        ("http://[secret", RedirectRefused),
        ("/secret" * 300, RedirectRefused),
        ("http://\xff{inside}/", RedirectRefused),
    ],
)
async def test_a_redirect_is_checked_like_a_url(location: str, kind: type[FetchFailed], canary: Host) -> None:
    target = location.format(inside=INSIDE, port=canary.port)
    async with (
        Host(redirect(target)) as host,
        fetcher_for(host, canary, look_up=lambda _: [INSIDE]) as fetcher,
    ):
        await fail(kind, fetcher.get(KEY, host.url, 1000))
    assert host.num_connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_and_counted(status: int) -> None:
    hops = [redirect(f"?hop={hop}", status) for hop in range(4)]
    async with Host(*hops[:3], answer(b"picture")) as host:
        assert await fetch(host, "/a/b") == b"picture"
    assert [request.split()[1] for request in host.requests] == [
        b"/a/b",
        b"/a/b?hop=0",
        b"/a/b?hop=1",
        b"/a/b?hop=2",
    ]
    async with Host(*hops) as host:
        assert await fail(RedirectRefused, fetch(host)) == "the URL redirects more than 3 times"
    assert host.num_connections == 4
    async with Host(hops[0]) as host:
        await fail(RedirectRefused, fetch(host, max_redirects=0))


async def test_a_redirect_brings_neither_cookies_nor_a_referrer() -> None:
    async with Host(redirect("/b", 302, "Set-Cookie: a=b"), answer(b"picture")) as host:
        assert await fetch(host) == b"picture"
    assert b"ookie" not in host.requests[1]
    assert b"eferer" not in host.requests[1]


async def test_a_redirect_to_nowhere_is_an_answer() -> None:
    async with Host(answer(b"", 302)) as host:
        assert "status 302" in await fail(HostAnswered, fetch(host))


async def test_no_redirect_leads_away_from_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ClientRequest, "is_ssl", lambda _: False
    )  # https without its TLS: no certificate here
    async with Host(answer(b"picture")) as plain:
        away, back = f"{plain.url}/?secret", f"https://{HOST}:{plain.port}/?secret"
        async with Host(redirect(away), redirect(back)) as host, fetcher_for(host, plain) as fetcher:
            said = await fail(RedirectRefused, fetcher.get(KEY, f"https://{HOST}:{host.port}/", 1000))
            assert said == f"the host {HOST} redirects from https to http"
            assert plain.num_connections == 0
            assert await fetcher.get(KEY, host.url, 1000) == b"picture"


async def test_neither_a_proxy_nor_a_password_is_taken_from_the_environment(
    canary: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, canary.url)
    (tmp_path / "netrc").write_text(f"machine {HOST} login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with Host(answer(b"picture")) as host:
        assert await fetch(host) == b"picture"
    assert b"uthorization" not in host.requests[0]


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
@pytest.mark.parametrize("has_length", [True, False])
async def test_a_file_may_have_as_many_bytes_as_are_wanted(size: int, *, has_length: bool) -> None:
    async with Host(answer(bytes(size), has_length=has_length)) as host:
        assert await fetch(host, max_bytes=1000) == bytes(size)


@pytest.mark.parametrize(
    "large",
    [
        answer(bytes(1001)),
        answer(bytes(1001), has_length=False),
        answer(
            b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n", 200, "Transfer-Encoding: chunked", has_length=False
        ),
        answer(bytes(1_000_000), has_length=False),
        b"HTTP/1.1 200 X\r\nContent-Length: 1001\r\n\r\n",
    ],
    ids=["announced", "to the end", "chunked", "endless", "not sent yet"],
)
async def test_a_file_with_more_bytes_is_refused_as_soon_as_that_is_known(large: bytes) -> None:
    async with Host(large, stalls=True) as host:
        said = await fail(BodyTooLarge, fetch(host, max_bytes=1000))
    assert said == "the file has more than 1000 bytes"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "x"])
async def test_a_compressed_file_is_refused_unread(encoding: str) -> None:
    body = gzip.compress(bytes(1_000_000))
    async with Host(answer(body, 200, f"Content-Encoding: {encoding}"), stalls=True) as host:
        await fail(EncodingRefused, fetch(host))


async def test_a_file_may_say_that_it_is_not_compressed() -> None:
    async with Host(answer(b"picture", 200, "Content-Encoding: Identity")) as host:
        assert await fetch(host) == b"picture"


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        (401, (True, False, False)),
        (403, (True, False, False)),
        (451, (True, False, False)),
        (429, (False, True, False)),
        (404, (False, False, True)),
        (410, (False, False, True)),
        (304, (False, False, False)),
        (500, (False, False, False)),
        (503, (False, False, False)),
    ],
)
async def test_a_status_without_a_file_is_told_and_classed(status: int, facts: tuple[bool, ...]) -> None:
    async with Host(answer(b"", status)) as host:
        with pytest.raises(HostAnswered) as caught:
            await fetch(host)
    error = caught.value
    assert str(error) == f"the host {HOST} answered with status {status}"
    assert (error.status, (error.is_blocked, error.is_rate_limited, error.is_missing)) == (status, facts)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (b"", "broke the connection off"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nabc", "broke the connection off"),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n\r\n", "does not answer in HTTP"),
        (b"SSH-2.0-secret\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n", "does not answer in HTTP"),
        (answer(b"", 200, "X: " + "secret" * 2000), "does not answer in HTTP"),
        (answer(b"", 200, *["X: y"] * 65), "does not answer in HTTP"),
    ],
)
async def test_an_answer_that_is_none_is_told_without_its_bytes(bad: bytes, fault: str) -> None:
    async with Host(bad) as host:
        assert await fail(HostUnreachable, fetch(host, "/?secret")) == f"the host {HOST} {fault}"


async def test_a_host_that_is_not_there_is_told_without_the_path() -> None:
    async with Host() as host:
        pass
    said = await fail(HostUnreachable, fetch(host, "/?secret"))
    assert said == f"the host {HOST} takes no connection"


async def test_a_name_that_nobody_knows_is_told() -> None:
    async with Host() as host, fetcher_for(host, look_up=know_nothing) as fetcher:
        said = await fail(HostUnreachable, fetcher.get(KEY, f"http://name.example:{host.port}/?secret", 1000))
    assert said == "the host name.example has no public address"


async def test_a_host_that_does_not_agree_on_tls_is_told_nothing() -> None:
    async with Host() as host, fetcher_for(host, connect_timeout_seconds=0.05) as fetcher:
        said = await fail(FetchTimedOut, fetcher.get(KEY, f"https://{HOST}:{host.port}/?secret", 1000))
    assert said == f"the host {HOST} took no connection within 0.05 s"
    assert host.requests == []


async def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    end = threading.Event()

    def wait(_: str) -> list[str]:
        end.wait(10)
        return [HOST]

    async with Host() as host, fetcher_for(host, look_up=wait, connect_timeout_seconds=0.05) as fetcher:
        url = f"http://name.example:{host.port}/?secret"
        said = [
            await fail(FetchTimedOut, call) for call in (fetcher.get(KEY, url, 1), fetcher.check(KEY, url))
        ]
        end.set()
    assert said == ["the host name.example was not looked up within 0.05 s"] * 2


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 X\r\nContent-"])
async def test_a_host_that_does_not_answer_is_given_up(begun: bytes) -> None:
    async with Host(begun, begun, stalls=True) as host:
        said = await fail(FetchTimedOut, fetch(host, "/?secret", timeout_seconds=0.05))
        assert said == "the URL's host did not finish within 0.05 s"
        async with fetcher_for(host, timeout_seconds=0.05) as fetcher:
            await fail(FetchTimedOut, fetcher.post(KEY, host.url, b"", {}))


async def test_redirects_share_one_time_limit() -> None:
    """Neither answer alone takes too long."""
    async with Host(redirect("/b"), answer(b"picture"), thinks_seconds=0.6) as host:
        await fail(FetchTimedOut, fetch(host, timeout_seconds=1))
    assert host.num_connections == 2


@pytest.mark.parametrize("ending", [{"stalls": True}, {"drips": True}])
async def test_a_body_that_trickles_is_given_up_long_before_the_time_is_over(ending: dict[str, bool]) -> None:
    begun = b"HTTP/1.1 200 X\r\nContent-Length: 900000000\r\n\r\nabc"
    limits = {"timeout_seconds": 1, "min_bytes_per_second": 10**9}
    async with Host(begun, **ending) as host:  # type: ignore[arg-type]  # keywords of one type
        said = await fail(FetchTimedOut, fetch(host, "/?secret", 10**9, **limits))
    assert said == f"the host {HOST} sends less than 1000000000 bytes a second"


async def test_a_small_file_need_not_be_fast() -> None:
    async with Host(answer(b"picture")) as host:
        assert await fetch(host, min_bytes_per_second=10**9) == b"picture"


async def test_a_file_is_whole_however_many_windows_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read_piece = Fetcher._read_piece

    async def measure(*args: Any) -> bytes:
        piece = await read_piece(*args)
        sizes.append(len(piece))
        return piece

    monkeypatch.setattr(Fetcher, "_read_piece", measure)
    body = bytes(range(256)) * 4
    async with Host(answer(body)) as host:
        assert await fetch(host, "/", 2000, timeout_seconds=5, min_bytes_per_second=100) == body
    assert sizes == [*[100] * 10, 24, 0]


async def test_hosts_that_stall_do_not_hold_up_the_others() -> None:
    async with (
        Host(stalls=True) as slow,
        Host(answer(b"picture")) as fast,
        fetcher_for(slow, fast) as fetcher,
    ):
        stalled = [asyncio.create_task(fetcher.get(KEY, slow.url, 1000)) for _ in range(120)]
        await asyncio.wait_for(slow.asked.wait(), 10)
        assert await fetcher.get(KEY, fast.url, 1000) == b"picture"
        for task in stalled:
            task.cancel()
        await asyncio.wait(stalled)


async def test_whoever_is_cancelled_lets_go_of_the_connection() -> None:
    async with Host(stalls=True) as host, fetcher_for(host) as fetcher:
        task = asyncio.create_task(fetcher.get(KEY, host.url, 1000))
        await asyncio.wait_for(host.asked.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await host.wait_until_closed()


async def test_what_is_posted_arrives_whole_and_once() -> None:
    body = bytes(range(256)) * 40
    async with Host(answer(b"thanks", 202)) as host, fetcher_for(host) as fetcher:
        headers = {"Content-Type": "application/json", "X-Signature": "abc"}
        assert await fetcher.post(KEY, host.url + "/hook?token=x", body, headers) == 202
    head, _, received = host.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?token=x HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\nX-Signature: abc\r\n" in head
    assert received == body


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 404, 429, 500])
async def test_a_post_tells_the_status_and_follows_no_redirect(status: int, canary: Host) -> None:
    async with Host(redirect(canary.url, status)) as host, fetcher_for(host, canary) as fetcher:
        assert await fetcher.post(KEY, host.url, b"{}", {}) == status
    assert host.num_connections == 1


async def test_a_post_does_not_wait_for_the_body_of_the_answer() -> None:
    async with Host(answer(b"")[:-2] + b"X: y\r\n\r\n", stalls=True) as host, fetcher_for(host) as fetcher:
        assert await fetcher.post(KEY, host.url, b"{}", {}) == 200
    endless = b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\n\r\n" + bytes(1_000_000)
    async with Host(endless, drips=True) as host, fetcher_for(host) as fetcher:
        assert await fetcher.post(KEY, host.url, b"{}", {}) == 200


@pytest.mark.parametrize("ports", ["", "0", "65536", "80,", "80;443", "-1", "https", "８０"])
def test_bad_ports_are_refused_by_name(ports: str) -> None:
    with pytest.raises(SettingInvalid, match=r"^IDEFICS2_FETCH_PORTS: "):
        Settings.read({"IDEFICS2_FETCH_PORTS": ports})


@pytest.mark.parametrize("networks", ["x", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "::1/200", "*"])
def test_bad_networks_are_refused_by_name(networks: str) -> None:
    with pytest.raises(SettingInvalid, match=r"^IDEFICS2_FETCH_ALLOWED_NETWORKS: "):
        Settings.read({"IDEFICS2_FETCH_ALLOWED_NETWORKS": networks})


def test_ports_and_networks_may_have_spaces_between() -> None:
    settings = FetchSettings(ports="80, 8080", allowed_networks="10.0.0.0/8, ::1")
    assert settings.open_ports == {80, 8080}
    assert [str(network) for network in settings.networks] == ["10.0.0.0/8", "::1/128"]

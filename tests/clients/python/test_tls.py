"""What both clients promise of TLS, against the service itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Identity
from clients.python.callers import KINDS, make_caller
from conftest import API_KEY
from fakes.backend import FakeBackend
from fakes.script import Script
from idefics2_client import Client, Idefics2Error, ServiceUnavailable, SettingInvalid
from idefics2_client.endpoint import parse_target
from idefics2_service.app import App

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from harness import MakeSettings

ROOT, OTHER_ROOT = Identity.make("root"), Identity.make("other root")
MAX_SECONDS = 20.0
"""A call that hangs fails by its deadline instead, which is another error."""


class Files:
    """Certificates of the service and of callers, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.root, self.other_root = folder / "root.pem", folder / "other.pem"
        self.root.write_bytes(ROOT.certificate_pem)
        self.other_root.write_bytes(OTHER_ROOT.certificate_pem)
        self.service = self._write(folder / "service", ROOT)
        self.caller = self._write(folder / "caller", OTHER_ROOT)
        self.stranger = self._write(folder / "stranger", ROOT)

    def _write(self, folder: Path, issuer: Identity) -> tuple[Path, Path]:
        folder.mkdir()
        return Identity.make(folder.name, issuer).write(folder)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def serve(make_settings: MakeSettings, files: Files | None = None, **fields: Any) -> AsyncIterator[str]:
    """Run a service, with TLS if it has files; yield where it is."""
    if files is not None:
        fields["grpc__tls_certificate_file"], fields["grpc__tls_key_file"] = map(str, files.service)
    async with App(make_settings(**fields), FakeBackend(Script())) as app:
        yield app.grpc_address


async def call(kind: str, target: str, **tls: Any) -> None:
    """Make a call.

    Raises:
        Idefics2Error: no connection came about.

    """
    async with make_caller(kind, target, api_key=API_KEY, **tls) as caller:
        assert [file async for file in caller.list_files(timeout_seconds=MAX_SECONDS)] == []


async def refuse(kind: str, target: str, **tls: Any) -> Idefics2Error:
    """Return the error of a call that must fail, the same for one that tries again."""
    with pytest.raises(Idefics2Error) as caught:
        await call(kind, target, **tls)
    async with make_caller(kind, target, api_key=API_KEY, **tls) as caller:
        with pytest.raises(type(caught.value)) as again:
            await caller.upload(b"BM" + bytes(3_000_000), timeout_seconds=MAX_SECONDS)
    assert str(again.value) == str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_with_tls_is_called_by_who_trusts_it(
    make_settings: MakeSettings, files: Files, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(make_settings, files) as address:
        await call(kind, address, ca_file=files.root)
        await call(kind, f"grpcs://{address}", ca_file=str(files.root))
        await call(kind, f"https://{address}/", ca_file=files.root, tls=True)
        async with make_caller(kind, address, api_key=API_KEY, ca_file=files.root) as caller:
            await caller.delete_file(await caller.upload(b"BM"))
        monkeypatch.setenv("IDEFICS2_CLIENT_CA_FILE", str(files.root))
        await call(kind, address)


@pytest.mark.parametrize("kind", KINDS)
async def test_whom_the_machine_trusts_vouches_where_nobody_else_does(
    make_settings: MakeSettings, files: Files, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.root))
    async with serve(make_settings, files) as address:
        await call(kind, address, tls=True)
        monkeypatch.setenv("IDEFICS2_CLIENT_TLS", "true")
        await call(kind, address)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_shows_its_certificate_where_one_is_asked_for(
    make_settings: MakeSettings, files: Files, kind: str
) -> None:
    async with serve(make_settings, files, grpc__tls_client_ca_file=str(files.other_root)) as address:
        certificate, key = files.caller
        await call(kind, address, ca_file=files.root, certificate_file=certificate, key_file=key)
        error = await refuse(kind, address, ca_file=files.root)
        assert isinstance(error, ServiceUnavailable)
        assert "IDEFICS2_CLIENT_CERTIFICATE_FILE" in str(error)
        certificate, key = files.stranger
        error = await refuse(kind, address, ca_file=files.root, certificate_file=certificate, key_file=key)
        assert "IDEFICS2_CLIENT_CERTIFICATE_FILE" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_that_nobody_vouches_for_is_not_called(
    make_settings: MakeSettings, files: Files, kind: str
) -> None:
    async with serve(make_settings, files) as address:
        for tls in ({"ca_file": files.other_root}, {"tls": True}):
            error = await refuse(kind, address, **tls)
            assert isinstance(error, SettingInvalid)
            assert "IDEFICS2_CLIENT_CA_FILE" in str(error)
    async with serve(make_settings, files, grpc__host="127.0.0.2") as address:
        error = await refuse(kind, address, ca_file=files.root)
        assert isinstance(error, SettingInvalid)
        assert "another name" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_plaintext_and_tls_that_meet_say_so(
    make_settings: MakeSettings, files: Files, kind: str
) -> None:
    async with serve(make_settings, files) as address:
        error = await refuse(kind, address)
        assert isinstance(error, ServiceUnavailable)
        assert "IDEFICS2_CLIENT_TLS=true" in str(error)
    async with serve(make_settings) as address:
        error = await refuse(kind, f"https://{address}")
        assert isinstance(error, SettingInvalid)
        assert "does not speak TLS" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_port_that_speaks_http_is_told_as_such(
    make_settings: MakeSettings, files: Files, kind: str
) -> None:
    certificate, key = map(str, files.service)
    async with App(make_settings(), FakeBackend(Script())) as app:
        error = await refuse(kind, app.http_address)
        assert isinstance(error, SettingInvalid)
        assert str(error) == f"{app.http_address} speaks HTTP, not gRPC: use the gRPC port"
    secure = make_settings(http__tls_certificate_file=certificate, http__tls_key_file=key)
    async with App(secure, FakeBackend(Script())) as app:
        error = await refuse(kind, app.http_address, ca_file=files.root)
        assert isinstance(error, SettingInvalid)
        assert "speaks HTTP, not gRPC" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_watch_does_not_wait_for_what_will_not_change(
    make_settings: MakeSettings, files: Files, kind: str
) -> None:
    async with (
        serve(make_settings, files) as address,
        make_caller(kind, address, api_key=API_KEY, ca_file=files.other_root) as caller,
    ):
        with pytest.raises(SettingInvalid):
            await caller.subscribe(b"", "What?")


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"junk", "folder"])
def test_a_file_that_cannot_be_used_is_named_before_any_call(
    files: Files, tmp_path: Path, name: str, content: bytes | str | None
) -> None:
    bad = tmp_path / "bad.pem"
    if content == "folder":
        bad.mkdir()
    elif isinstance(content, bytes):
        bad.write_bytes(content)
    certificate, key = files.caller
    good = {"ca_file": files.root, "certificate_file": certificate, "key_file": key}
    paths: Any = {**good, name: bad}
    with pytest.raises(SettingInvalid, match=r"bad\.pem") as caught:
        Client(**paths)
    assert caught.value.field in paths


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    with pytest.raises(SettingInvalid, match="is not the key") as caught:
        Client(certificate_file=files.caller[0], key_file=files.stranger[1])
    assert caught.value.field == "key_file"


def test_a_certificate_and_its_key_come_together(files: Files) -> None:
    with pytest.raises(SettingInvalid, match="IDEFICS2_CLIENT_KEY_FILE"):
        Client(certificate_file=files.caller[0])
    with pytest.raises(SettingInvalid, match="IDEFICS2_CLIENT_CERTIFICATE_FILE"):
        Client(key_file=files.caller[1])


@pytest.mark.parametrize(
    ("target", "tls"), [("https://gpu", False), ("http://gpu", True), ("grpc://gpu", True), ("gpu:1", False)]
)
def test_what_contradicts_itself_is_refused(files: Files, target: str, *, tls: bool) -> None:
    ca_file = files.root if target == "gpu:1" else None
    with pytest.raises(SettingInvalid, match="contradict"):
        Client(target, tls=tls, ca_file=ca_file)


def test_a_variable_that_is_neither_true_nor_false_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_CLIENT_TLS", "perhaps")
    with pytest.raises(SettingInvalid, match="IDEFICS2_CLIENT_TLS"):
        Client()


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        ("gpu:1", ("gpu:1", None)),
        ("gpu", ("gpu:50051", None)),
        ("10.0.0.1", ("10.0.0.1:50051", None)),
        ("dns:///gpu:1", ("dns:///gpu:1", None)),
        ("unix:///run/gpu", ("unix:///run/gpu", None)),
        ("unix:gpu", ("unix:gpu", None)),
        ("dns:gpu", ("dns:gpu", None)),
        ("[::1]:1", ("[::1]:1", None)),
        ("[::1]", ("[::1]:50051", None)),
        ("gpu:65535", ("gpu:65535", None)),
        ("b\u00fccher.example", ("b\u00fccher.example:50051", None)),
        ("https://gpu", ("gpu:443", True)),
        ("HTTP://gpu/", ("gpu:80", False)),
        ("grpcs://gpu", ("gpu:50051", True)),
        ("grpc://[::1]:7", ("[::1]:7", False)),
    ],
)
def test_a_target_says_where_and_whether_by_tls(target: str, parsed: tuple[str, bool | None]) -> None:
    assert parse_target(target) == parsed


@pytest.mark.parametrize(
    "target", ["https://", "https://u:geheim@gpu", "https://gpu/path", "http://gpu:x", "grpc://gpu:0"]
)
def test_a_url_that_says_more_than_where_is_refused(target: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        Client(target)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("port", ["abc", "", "https", "0", "65536", "99999", "-1", "1.5", "1/path", "\u0661"])
@pytest.mark.parametrize("host", ["127.0.0.1", "gpu", "[::1]"])
def test_a_port_that_is_none_is_refused_before_any_call(host: str, port: str) -> None:
    with pytest.raises(SettingInvalid, match="HOST:PORT, and PORT 1 to 65535") as caught:
        Client(f"{host}:{port}")
    assert caught.value.field == "target"


@pytest.mark.parametrize("target", ["a\udcff:1", "https://a\udcff"])
def test_a_target_that_is_not_unicode_is_refused(target: str) -> None:
    with pytest.raises(SettingInvalid, match="the target must be Unicode"):
        Client(target)


def test_a_password_where_a_port_belongs_is_not_shown() -> None:
    with pytest.raises(SettingInvalid) as caught:
        Client("u:geheim@gpu")
    assert "geheim" not in str(caught.value)

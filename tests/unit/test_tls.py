"""Certificates in files, and what may be listened on without any."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from certificates import HOST, Identity
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from idefics2_service import tls
from idefics2_service.errors import SettingInvalid
from idefics2_service.exposure import check_exposure, is_loopback
from idefics2_service.rest.credentials import make_context
from idefics2_service.settings import GrpcSettings, Settings
from idefics2_service.tls import Certificates, Pems
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE, OTHER = Identity.make("one"), Identity.make("other")


def find(folder: Path, **fields: Any) -> Certificates:
    """Read the files of a folder."""
    given = {"tls_certificate_file": folder / "certificate.pem", "tls_key_file": folder / "key.pem", **fields}
    found = Certificates.find("grpc", GrpcSettings(**given))
    assert found is not None
    return found


def refuse(folder: Path, **fields: Any) -> str:
    """Read files that are bad; return what is said of them."""
    with pytest.raises(SettingInvalid) as caught:
        find(folder, **fields)
    return str(caught.value)


def test_without_files_there_is_no_tls() -> None:
    assert Certificates.find("grpc", GrpcSettings()) is None


def test_the_files_are_read(tmp_path: Path) -> None:
    ONE.write(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(OTHER.certificate_pem)
    pems = find(tmp_path, tls_client_ca_file=ca).pems
    assert (pems.certificate, pems.key) == (ONE.certificate_pem, ONE.key_pem)
    assert pems.client_ca == OTHER.certificate_pem
    assert "PRIVATE" not in repr(pems)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    ONE.write(tmp_path)
    assert "IDEFICS2_GRPC_TLS_KEY_FILE is missing" in refuse(tmp_path, tls_key_file=None)
    assert "IDEFICS2_GRPC_TLS_CERTIFICATE_FILE is missing" in refuse(tmp_path, tls_certificate_file=None)
    gone = tmp_path / "gone.pem"
    message = refuse(tmp_path, tls_client_ca_file=gone)
    assert message == f"IDEFICS2_GRPC_TLS_CLIENT_CA_FILE: cannot read {gone}: No such file or directory"


def test_what_is_bad_is_named_and_not_repeated(tmp_path: Path) -> None:
    certificate, key = ONE.write(tmp_path)
    certificate.write_bytes(b"swordfish")
    assert refuse(tmp_path) == "IDEFICS2_GRPC_TLS_CERTIFICATE_FILE holds no certificate in PEM"
    certificate, key = ONE.write(tmp_path)
    locked = ONE.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"swordfish"))
    for bad in (b"swordfish", locked, ONE.certificate_pem):
        key.write_bytes(bad)
        assert refuse(tmp_path) == "IDEFICS2_GRPC_TLS_KEY_FILE holds no key in PEM without password"
    key.write_bytes(OTHER.key_pem)
    assert refuse(tmp_path) == "IDEFICS2_GRPC_TLS_KEY_FILE is not the key of the certificate"
    ONE.write(tmp_path)
    assert "CLIENT_CA_FILE holds no certificate" in refuse(tmp_path, tls_client_ca_file=key)


def test_files_that_were_replaced_are_read_once_both_are(tmp_path: Path) -> None:
    certificate, key = ONE.write(tmp_path)
    certificates, used = find(tmp_path), list[Pems]()
    certificates.let_use(used.append)
    certificates.renew()
    certificate.write_bytes(OTHER.certificate_pem)
    with capture_logs() as lines:
        certificates.renew()
        certificates.renew()
    assert [line["event"] for line in lines] == ["certificates stay as they were"]
    assert not certificates.is_current
    assert certificates.pems.certificate == ONE.certificate_pem
    key.write_bytes(OTHER.key_pem)
    certificates.renew()
    certificates.renew()
    assert certificates.is_current
    assert certificates.pems.certificate == OTHER.certificate_pem
    assert used == [certificates.pems]


def test_a_key_that_is_bad_is_looked_at_once_however_often_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = ONE.write(tmp_path)
    certificates = find(tmp_path)
    parsed: list[bytes] = []

    def note(pem: bytes, **given: Any) -> Any:
        parsed.append(pem)
        return load_pem_private_key(pem, **given)

    monkeypatch.setattr(tls, "load_pem_private_key", note)
    certificates.renew()
    key.write_bytes(OTHER.key_pem)
    certificates.renew()
    certificates.renew()
    assert parsed == [OTHER.key_pem]
    assert not certificates.is_current
    key.write_bytes(ONE.key_pem)
    certificates.renew()
    assert certificates.is_current


def test_files_that_were_replaced_while_they_were_used_are_looked_at_again(tmp_path: Path) -> None:
    ONE.write(tmp_path)
    certificates, answers = find(tmp_path), [OSError("key values mismatch"), None]

    def use(_: Pems) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    certificates.let_use(use)
    OTHER.write(tmp_path)
    certificates.renew()
    assert not certificates.is_current
    certificates.renew()
    assert certificates.is_current
    assert certificates.pems.certificate == OTHER.certificate_pem


def shake_hands(
    serving: ssl.SSLContext, calling: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Let a caller connect, and resume a session where one is given; return both ends.

    Raises:
        ssl.SSLError: the service refuses the caller.

    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(up, down, server_side=True)
    client = calling.wrap_bio(down, up, server_hostname=HOST, session=session)
    steps: list[Callable[[], object]] = [client.do_handshake, server.do_handshake]
    while steps:
        with suppress(ssl.SSLWantReadError):
            steps[0]()
            del steps[0]
            continue
        steps.reverse()
    server.write(b"x")
    assert client.read() == b"x"  # behind it are the tickets that sessions are resumed with
    return server, client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_not_resumed_once_others_vouch_for_callers(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    files, ca = Identity.make("caller", ONE).write(tmp_path), tmp_path / "ca.pem"
    calling = ssl.create_default_context(cadata=OTHER.certificate_pem.decode())
    calling.maximum_version = version
    calling.load_cert_chain(*files)
    Identity.make("service", OTHER).write(tmp_path)
    ca.write_bytes(ONE.certificate_pem)
    certificates = find(tmp_path, tls_client_ca_file=ca)
    serving = make_context(certificates)
    _, client = shake_hands(serving, calling)
    server, client = shake_hands(serving, calling, client.session)
    assert server.session_reused
    ca.write_bytes(OTHER.certificate_pem)
    certificates.renew()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(serving, calling, client.session)
    ca.write_bytes(ONE.certificate_pem)
    certificates.renew()
    server, _ = shake_hands(serving, calling, client.session)
    assert not server.session_reused


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_these_addresses_are_this_machines_alone(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings.read({"IDEFICS2_GRPC_HOST": host, "IDEFICS2_HTTP_HOST": host}), 0)


EVERYWHERE = ["0.0.0.0", "::", "[::]", "10.0.0.1", "192.168.1.1", "example.com", ""]  # noqa: S104  # refused


@pytest.mark.parametrize("host", EVERYWHERE)
@pytest.mark.parametrize("face", ["GRPC", "HTTP"])
def test_others_are_refused_without_tls_or_without_keys(host: str, face: str) -> None:
    environ = {f"IDEFICS2_{face}_HOST": host}
    with pytest.raises(SettingInvalid) as caught:
        check_exposure(Settings.read(environ), 1)
    for named in (f"IDEFICS2_{face}_HOST", f"IDEFICS2_{face}_TLS_CERTIFICATE_FILE", "_ALLOW_INSECURE=true"):
        assert named in str(caught.value)
    safe = {**environ, f"IDEFICS2_{face}_TLS_CERTIFICATE_FILE": "x", f"IDEFICS2_{face}_TLS_KEY_FILE": "y"}
    check_exposure(Settings.read(safe), 1)
    with pytest.raises(SettingInvalid, match="there are no keys"):
        check_exposure(Settings.read(safe), 0)
    check_exposure(Settings.read({**environ, f"IDEFICS2_{face}_ALLOW_INSECURE": "true"}), 0)


def test_the_proxy_for_fals_names_has_a_certificate_of_its_own_but_needs_keys_as_other_ports_do() -> None:
    environ = {"IDEFICS2_CONNECT_HOST": "0.0.0.0"}  # noqa: S104  # refused
    check_exposure(Settings.read(environ), 0)  # for it is not open
    environ["IDEFICS2_CONNECT_PORT"] = "8081"
    check_exposure(Settings.read(environ), 1)
    with pytest.raises(
        SettingInvalid, match=r"IDEFICS2_CONNECT_HOST.* no keys.*IDEFICS2_CONNECT_ALLOW_INSECURE"
    ):
        check_exposure(Settings.read(environ), 0)
    check_exposure(Settings.read({**environ, "IDEFICS2_CONNECT_ALLOW_INSECURE": "true"}), 0)


def test_where_the_http_port_demands_certificates_the_proxy_for_fals_names_must_too() -> None:
    environ = {"IDEFICS2_HTTP_TLS_CLIENT_CA_FILE": "x", "IDEFICS2_CONNECT_PORT": "8081"}
    with pytest.raises(SettingInvalid, match="set IDEFICS2_CONNECT_TLS_CLIENT_CA_FILE, too"):
        check_exposure(Settings.read(environ), 1)
    check_exposure(Settings.read({**environ, "IDEFICS2_CONNECT_TLS_CLIENT_CA_FILE": "x"}), 1)

"""The authority for fal's host names: whoever has its key can pass for those hosts, and for nobody else."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from disks import note_safe_names
from idefics2_service.authority import Authority
from idefics2_service.errors import SettingInvalid
from idefics2_service.rest.origins import FAL_HOSTS

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import ObjectIdentifier

HOSTS = sorted(FAL_HOSTS)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def forge(folder: Path, *names: x509.GeneralName, usage: ObjectIdentifier = SERVER) -> tuple[Path, Path]:
    """Write a certificate that the authority would not issue, by its key, and a key for it."""
    authority = Authority.load_or_make(folder, HOSTS)
    _, key_file = authority.issue(folder, HOSTS)
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    now = datetime.now(UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Mallory")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())  # type: ignore[arg-type]  # elliptic
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(authority.key, SHA256())
    )
    path = folder / "forged.pem"
    path.write_bytes(forged.public_bytes(Encoding.PEM))
    return path, key_file


def present(folder: Path, files: tuple[Path, Path], host: str | None, *, by_client: bool = False) -> None:
    """Agree on TLS by a certificate, of the server or of its caller; SSLError where it is not believed."""
    believing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if by_client else ssl.PROTOCOL_TLS_CLIENT)
    showing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if by_client else ssl.PROTOCOL_TLS_SERVER)
    believing.load_verify_locations(folder / "ca.pem")
    showing.load_cert_chain(*files)
    client, server = (showing, believing) if by_client else (believing, showing)
    client.check_hostname = host is not None
    client.verify_mode = ssl.CERT_NONE if by_client else ssl.CERT_REQUIRED
    if by_client:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_cert_chain(*files)  # which its caller does not look at
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in ends.copy():
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


@pytest.mark.parametrize("host", HOSTS)
def test_what_it_issues_is_believed_for_each_of_fals_hosts(tmp_path: Path, host: str) -> None:
    files = Authority.load_or_make(tmp_path, HOSTS).issue(tmp_path, HOSTS)
    present(tmp_path, files, host)


@pytest.mark.parametrize(
    "name",
    [
        x509.DNSName("example.com"),
        x509.DNSName("fal.run.example.com"),
        x509.DNSName("notfal.run"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("2001:db8::1")),
        x509.RFC822Name("somebody@example.com"),
        x509.UniformResourceIdentifier("https://example.com/"),
    ],
    ids=lambda name: str(name.value),
)
def test_whoever_has_its_key_cannot_pass_for_anybody_else(tmp_path: Path, name: x509.GeneralName) -> None:
    for names in ((name,), (x509.DNSName("fal.run"), name)):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"permitted subtree|excluded subtree"):
            present(tmp_path, forge(tmp_path, *names), None)


def test_nor_call_anybody_as_one_of_fals_hosts(tmp_path: Path) -> None:
    files = forge(tmp_path, x509.DNSName("fal.run"), usage=CLIENT)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"purpose|invalid CA"):
        present(tmp_path, files, None, by_client=True)


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(Authority.load_or_make, [tmp_path] * 8, [HOSTS] * 8)
    assert len({authority.certificate.serial_number for authority in made}) == 1


def test_its_key_is_safe_on_the_disk_before_its_certificate_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = note_safe_names(tmp_path, monkeypatch)
    Authority.load_or_make(tmp_path, HOSTS)
    assert safe == [{"ca_key.pem"}, {"ca_key.pem", "ca.pem"}]


@pytest.mark.parametrize("name", ["ca.pem", "ca_key.pem"])
def test_a_key_that_is_not_its_certificates_is_said_at_the_start(tmp_path: Path, name: str) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        Authority.load_or_make(folder, HOSTS)
    (other / name).replace(ours / name)
    with pytest.raises(
        SettingInvalid, match=r"IDEFICS2_DATA_FOLDER: .*ca_key\.pem is not the key of ca\.pem"
    ):
        Authority.load_or_make(ours, HOSTS)

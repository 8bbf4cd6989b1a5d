"""Certificates for fal's host names, by an authority that the service makes for itself.

Who trusts the authority's certificate takes this service for the hosted endpoint. It is bound to servers of
those names and of names below them, so that it vouches for nothing else, even if its key is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from idefics2_service.errors import SettingInvalid
from idefics2_service.private_files import locked, replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_AUTHORITY_DAYS, _CERTIFICATE_DAYS = 3650, 397
_NAME = "idefics2-serving's own authority"
_FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_FORMS = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)
_ADDRESSES = [x509.IPAddress(ip_network(network)) for network in ("0.0.0.0/0", "::/0")]


@dataclass(frozen=True)
class Authority:
    """Vouches for servers of some host names and of names below them, and for nothing else."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @classmethod
    def load_or_make(cls, folder: Path, hosts: Sequence[str]) -> Self:
        """Read `ca.pem` and `ca_key.pem` in `folder`, made there for `hosts` where they are missing.

        Raises:
            SettingInvalid: they cannot be kept, or are damaged.

        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(folder):
                if not (folder / "ca.pem").exists():
                    cls._make(hosts).keep(folder)
            return cls._load(folder)
        except (OSError, ValueError, TypeError) as error:
            raise SettingInvalid(f"IDEFICS2_DATA_FOLDER: cannot keep {folder / 'ca.pem'}: {error}") from error

    def issue(self, folder: Path, hosts: Sequence[str]) -> tuple[Path, Path]:
        """Write a new certificate for `hosts` and its key into `folder`, and return where they lie."""
        key = generate_private_key(SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        certificate = (
            _begin(hosts[0], self.certificate.subject, key, _CERTIFICATE_DAYS)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_FOR_SERVERS, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._identifier, critical=False)
            .sign(self.key, SHA256())
        )
        paths = folder / "certificate.pem", folder / "certificate_key.pem"
        replace(paths[0], certificate.public_bytes(Encoding.PEM))
        replace(paths[1], _encode(key))
        return paths

    @property
    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    @classmethod
    def _make(cls, hosts: Sequence[str]) -> Self:
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
        certificate = (
            _begin(_NAME, subject, key, _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_bind_to(hosts), critical=True)
            .add_extension(_signs_certificates(), critical=True)
            .add_extension(_FOR_SERVERS, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def _load(cls, folder: Path) -> Self:
        key = load_pem_private_key((folder / "ca_key.pem").read_bytes(), password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError("ca_key.pem holds a key of another kind")
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        if certificate.public_key() != key.public_key():
            raise ValueError("ca_key.pem is not the key of ca.pem")
        return cls(certificate, key)

    def keep(self, folder: Path) -> None:
        """Write both files; the certificate last, since it says that both are there."""
        replace(folder / "ca_key.pem", _encode(self.key))
        replace(folder / "ca.pem", self.certificate.public_bytes(Encoding.PEM))


def _begin(
    name: str, issuer: x509.Name, key: EllipticCurvePrivateKey, num_days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=num_days))
    )


def _bind_to(hosts: Sequence[str]) -> x509.NameConstraints:
    """Bind each form of name, since one that is not mentioned is free (RFC 5280, section 4.2.1.10)."""
    return x509.NameConstraints([form(host) for host in hosts for form in _FORMS], _ADDRESSES)


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _encode(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

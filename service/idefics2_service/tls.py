"""Certificates of a port, in files that may be replaced while it is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from idefics2_service.errors import SettingInvalid
from idefics2_service.lookout import keep_looking

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

    from idefics2_service.settings import PortSettings

logger = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Pems:
    """What the files hold."""

    certificate: bytes
    """The port's own first, then those that lead to the root."""
    key: bytes = field(repr=False)
    client_ca: bytes | None = None
    """Who vouches for callers; None: nobody needs to."""


class Certificates:
    """The files of a port, and what they held when they were last good."""

    def __init__(self, section: str, settings: PortSettings) -> None:
        """Read the files of a section of settings.

        Raises:
            SettingInvalid: one is missing or bad, or they do not belong together; the message names it.

        """
        self._prefix = f"IDEFICS2_{section.upper()}_TLS_"
        self.certificate_path = self._expand("CERTIFICATE_FILE", settings.tls_certificate_file)
        self.key_path = self._expand("KEY_FILE", settings.tls_key_file)
        self._client_ca_path = settings.tls_client_ca_file
        self._users: list[Callable[[Pems], None]] = []
        self._trouble = ""
        self._refused: tuple[Pems, str] | None = None
        """What the files held when they were last bad, and why."""
        self.pems = self._read()
        self._check(self.pems)

    @property
    def is_current(self) -> bool:
        """Whether the files were good when they were last read."""
        return not self._trouble

    @property
    def expires_at(self) -> float:
        """When the port's own certificate ends, in seconds since the epoch."""
        return load_pem_x509_certificates(self.pems.certificate)[0].not_valid_after_utc.timestamp()

    @classmethod
    def find(cls, section: str, settings: PortSettings) -> Self | None:
        """Read the files, if any are set.

        Raises:
            SettingInvalid: as the constructor says.

        """
        return cls(section, settings) if settings.has_tls else None

    def let_use(self, use: Callable[[Pems], None]) -> None:
        """Let `use` have what is new and good, in the thread that reads it, before it is in `pems`.

        It may raise OSError, where it reads the files itself, and they were replaced again: then it is asked
        once more at the next look.
        """
        self._users.append(use)

    def follow(self) -> AbstractContextManager[None]:
        """Read the files again and again, until the end of the context."""
        return keep_looking(self.renew, LOOK_AGAIN_SECONDS)

    def renew(self) -> None:
        """Read the files again; what is new and good is in `pems` then. Blocks, for long where the disk does.

        A file that is bad, or was replaced before its fellow, leaves all as it was, and the log says so.
        """
        try:
            pems = self._read()
            if pems != self.pems:
                self._take(pems)
        except SettingInvalid as error:
            if str(error) != self._trouble:  # once, not at each look
                logger.error("certificates stay as they were", error=str(error))  # noqa: TRY400  # it says it all
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _take(self, pems: Pems) -> None:
        self._check(pems)
        try:
            for use in self._users:
                use(pems)
        except OSError as error:
            raise SettingInvalid(f"{self._prefix}CERTIFICATE_FILE cannot be used: {error}") from error
        self.pems = pems
        logger.info("certificates read")

    def _expand(self, name: str, path: Path | None) -> Path:
        if path is None:
            raise SettingInvalid(f"{self._prefix}{name} is missing: TLS needs a certificate and its key")
        return path.expanduser()

    def _read(self) -> Pems:
        client_ca = self._client_ca_path
        return Pems(
            self._read_file("CERTIFICATE_FILE", self.certificate_path),
            self._read_file("KEY_FILE", self.key_path),
            None if client_ca is None else self._read_file("CLIENT_CA_FILE", client_ca.expanduser()),
        )

    def _check(self, pems: Pems) -> None:
        """Refuse what is bad; the same again without another look, for that takes a tenth of a second."""
        if self._refused is not None and self._refused[0] == pems:
            raise SettingInvalid(self._refused[1])
        try:
            self._parse_all(pems)
        except SettingInvalid as error:
            self._refused = pems, str(error)
            raise

    def _parse_all(self, pems: Pems) -> None:
        key = self._parse_key(pems.key)
        if key.public_key() != self._parse("CERTIFICATE_FILE", pems.certificate).public_key():
            raise SettingInvalid(f"{self._prefix}KEY_FILE is not the key of the certificate")
        if pems.client_ca is not None:
            self._parse("CLIENT_CA_FILE", pems.client_ca)

    def _read_file(self, name: str, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise SettingInvalid(f"{self._prefix}{name}: cannot read {path}: {error.strerror}") from error

    def _parse(self, name: str, pem: bytes) -> Certificate:
        try:
            return load_pem_x509_certificates(pem)[0]
        except ValueError as error:
            raise SettingInvalid(f"{self._prefix}{name} holds no certificate in PEM") from error

    def _parse_key(self, pem: bytes) -> PrivateKeyTypes:
        try:
            return load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingInvalid(f"{self._prefix}KEY_FILE holds no key in PEM without password") from error

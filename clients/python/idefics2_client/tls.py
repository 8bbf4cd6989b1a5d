"""TLS: who vouches for the service, and how the caller shows who it is."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import grpc

from idefics2_client.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = ("ca_file", "certificate_file", "key_file")
_PREFIX = "IDEFICS2_CLIENT_"
_TRUTHS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True)
class Tls:
    """What was said of TLS, by arguments or variables."""

    is_wanted: bool
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def find(cls, given: Mapping[str, object], *, target_wants: bool | None = None) -> Self:
        """Take what is given; look for the rest in the environment. Files mean TLS by themselves.

        Raises:
            SettingInvalid: two of them contradict each other.

        """
        files = {name: path for name in FILES if (path := _find_file(name, given))}
        wanted = given.get("tls")
        if wanted is None and target_wants is None:
            wanted = _read_variable()
        words = {target_wants, wanted} - {None} | ({True} if files else set())
        if len(words) > 1:
            raise SettingInvalid(
                "the target, tls and the files of TLS contradict each other: "
                "leave the files out, or say https:// or tls=True",
                field="tls",
            )
        if ("certificate_file" in files) != ("key_file" in files):
            missing = "key_file" if "certificate_file" in files else "certificate_file"
            raise SettingInvalid(
                f"a certificate and its key belong together: set {_name(missing)}", field=missing
            )
        return cls(True in words, **files)

    def read(self) -> grpc.ChannelCredentials | None:
        """Read the files; None: no TLS is wanted.

        Raises:
            SettingInvalid: a file cannot be read, or holds nothing that can be used; the message names it.

        """
        if not self.is_wanted:
            return None
        roots = _read_file("ca_file", self.ca_file) if self.ca_file else _read_system_roots()
        certificate = self.certificate_file and _read_file("certificate_file", self.certificate_file)
        key = self.key_file and _read_file("key_file", self.key_file)
        self._check()
        return grpc.ssl_channel_credentials(roots, key or None, certificate or None)

    def _check(self) -> None:
        """Refuse by name what grpc would take, and then never connect with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file:
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError as error:
                raise _refuse("ca_file", self.ca_file, "holds no certificate in PEM") from error
        if self.certificate_file and self.key_file:
            try:
                context.load_cert_chain(
                    self.certificate_file, self.key_file, password=""
                )  # never asks a person
            except ssl.SSLError as error:
                why = f"is not the key, in PEM without password, of the certificate {self.certificate_file}"
                raise _refuse("key_file", self.key_file, why) from error


def _find_file(name: str, given: Mapping[str, object]) -> Path | None:
    path = given.get(name) or os.environ.get(f"{_PREFIX}{name.upper()}")
    return Path(cast("str", path)).expanduser() if path else None


def _read_variable() -> bool | None:
    name = f"{_PREFIX}TLS"
    text = os.environ.get(name, "").strip().lower()
    if text and text not in _TRUTHS:
        raise SettingInvalid(f"{name} must be true or false, not {text}", field="tls")
    return _TRUTHS.get(text)


def _read_file(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _refuse(name, path, f"cannot be read: {getattr(error, 'strerror', error)}") from error


def _refuse(name: str, path: Path, why: str) -> SettingInvalid:
    return SettingInvalid(f"{_name(name)}: {path} {why}", field=name)


def _name(name: str) -> str:
    return f"{name} (or {_PREFIX}{name.upper()})"


def _read_system_roots() -> bytes | None:
    """Read the authorities that this machine trusts; None: grpc takes those that it brings along."""
    paths = ssl.get_default_verify_paths()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    # Named by the hash of what they hold, as OpenSSL wants them.
    hashed = sorted(Path(paths.capath).glob("*.[0-9]")) if paths.capath else []
    return b"\n".join(path.read_bytes() for path in hashed) or None

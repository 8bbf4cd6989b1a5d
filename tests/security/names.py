"""A name server that lies, and a look-up that believes it."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_A, _AAAA, _IN = 1, 28, 1
_HEADER = struct.Struct(">HHHHHH")
_NO_NAME = 3


class NameServer:
    """Speaks DNS over UDP on loopback. Each look at a name brings its next answer, the last one for ever."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._answers: dict[str, list[list[str]]] = {}
        self.num_looks: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, name="name-server")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()

    def set(self, name: str, *answers: Sequence[str]) -> None:
        """Let a name mean `answers`, one after the other, each a list of addresses."""
        self._answers[name] = [list(answer) for answer in answers]
        self.num_looks[name] = 0

    def look_up(self, name: str) -> list[str]:
        """Ask over the network, and as `fetcher.look_up` does only for names.

        Raises:
            OSError: there is no such name.

        """
        with suppress(ValueError):
            return [str(ip_address(name))]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.sendto(_write_question(name), self.address)
            return _read_answer(asking.recv(4096), name)

    def _serve(self) -> None:
        while True:
            message, who = self._socket.recvfrom(4096)
            if not message:
                return
            self._socket.sendto(self._answer(message), who)

    def _answer(self, message: bytes) -> bytes:
        number = _HEADER.unpack_from(message)[0]
        name, end = _read_name(message)
        question = message[_HEADER.size : end + 4]
        answers = self._answers.get(name.rstrip("."))
        if answers is None:
            return _HEADER.pack(number, 0x8180 | _NO_NAME, 1, 0, 0, 0) + question
        addresses = answers[min(self.num_looks[name], len(answers) - 1)]
        self.num_looks[name] += 1
        records = b"".join(_write_record(address) for address in addresses)
        return _HEADER.pack(number, 0x8180, 1, len(addresses), 0, 0) + question + records


def _write_question(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    written = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(1, 0x0100, 1, 0, 0, 0) + written + struct.pack(">HH", _A, _IN)


def _write_record(address: str) -> bytes:
    """Write a record that is forgotten at once; its name is the question's."""
    packed = ip_address(address).packed
    kind = _A if len(packed) == 4 else _AAAA
    return struct.pack(">HHHIH", 0xC00C, kind, _IN, 0, len(packed)) + packed


def _read_name(message: bytes) -> tuple[str, int]:
    labels, position = [], _HEADER.size
    while length := message[position]:
        labels.append(message[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels), position + 1


def _read_answer(message: bytes, name: str) -> list[str]:
    _, flags, _, num_answers, _, _ = _HEADER.unpack_from(message)
    if flags & 15:
        raise socket.gaierror(socket.EAI_NONAME, f"no {name}")
    _, position = _read_name(message)
    position += 4
    addresses = []
    for _ in range(num_answers):
        (length,) = struct.unpack_from(">H", message, position + 10)
        position += 12
        addresses.append(str(ip_address(message[position : position + length])))
        position += length
    return addresses

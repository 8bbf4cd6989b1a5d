"""The process that decodes pictures: requests on its standard input, replies on its standard output.

Both are a length, a JSON head and bytes. It imports no torch: it starts quickly and takes little memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from idefics2_engine.images import InvalidImage, Sizing, cut, decode_image

HEAD = struct.Struct("<II")  # bytes of the JSON head, and of what follows it
OVERRUN = signal.SIGPROF
"""Ends a worker that takes too much of the processor's time for one picture."""
_LEAST_SECONDS, _LEAST_BYTES = 1.0, 200_000_000
"""What any picture may take."""
_PR_SET_PDEATHSIG = 1


def pack(head: dict[str, Any], data: bytes) -> bytes:
    """Make a message."""
    text = json.dumps(head).encode()
    return HEAD.pack(len(text), len(data)) + text + data


def main() -> None:
    """Be a worker: answer until there is no more to read."""
    parent, max_memory_bytes, max_pixels = (int(argument) for argument in sys.argv[1:4])
    allowance = Allowance(max_pixels, float(sys.argv[4]), max_memory_bytes)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to die with it
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    while message := _read(sys.stdin.buffer):
        replies.write(_answer(*message, allowance))
        replies.flush()


class Allowance:
    """What one picture may take: of both limits its share by its pixels, and never less than a little.

    The limits are for the largest picture. A small one that takes as much was made for it.
    """

    def __init__(self, max_pixels: int, max_seconds: float, max_memory_bytes: int) -> None:
        """Give a picture of `max_pixels` all of it: seconds of the processor, and bytes of address space."""
        self.max_pixels = max_pixels
        self._max_seconds = max(max_seconds, _LEAST_SECONDS)
        self._max_memory_bytes = max_memory_bytes
        self._idle_bytes = 0

    def begin(self, data: bytes) -> None:
        """Let the header of a file be read."""
        self._idle_bytes = _address_space_bytes()
        # WebP's decoder makes room for the whole picture before it tells of its size.
        self._set(0, 1 if data.startswith(b"RIFF") else 0)

    def extend(self, num_pixels: int) -> None:
        """Let so many pixels be decoded."""
        share = num_pixels / self.max_pixels
        self._set(share, share)

    def end(self) -> None:
        """Let all be done that is no picture's."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (self._max_memory_bytes, self._max_memory_bytes))

    def _set(self, time_share: float, memory_share: float) -> None:
        signal.setitimer(
            signal.ITIMER_PROF, _LEAST_SECONDS + time_share * (self._max_seconds - _LEAST_SECONDS)
        )
        more_bytes = _LEAST_BYTES + round(memory_share * self._max_memory_bytes)
        num_bytes = min(self._idle_bytes + more_bytes, self._max_memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, self._max_memory_bytes))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    sizes = stream.read(HEAD.size)
    if len(sizes) < HEAD.size:
        return None
    num_head_bytes, num_bytes = HEAD.unpack(sizes)
    return json.loads(stream.read(num_head_bytes)), stream.read(num_bytes)


def _answer(head: dict[str, Any], data: bytes, allowance: Allowance) -> bytes:
    try:
        return _cut(head, data, allowance)
    except InvalidImage as error:
        return pack({"reason": error.reason, "problem": error.problem}, b"")
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        problem = f"needs more than the {limit} bytes of memory that decoding it may take"
        return pack({"reason": "FILE_UNDECODABLE", "problem": problem}, b"")
    finally:
        allowance.end()


def _cut(head: dict[str, Any], data: bytes, allowance: Allowance) -> bytes:
    allowance.begin(data)
    image = decode_image(data, allowance.max_pixels, allowance.extend)
    crops = cut(image, Sizing(**head["sizing"]), split=head["split"])
    grids = {"grids": [crop.grid for crop in crops]}
    return pack(grids, b"".join(crop.patches.tobytes() for crop in crops))


if __name__ == "__main__":
    main()

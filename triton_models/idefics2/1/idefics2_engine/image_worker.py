"""The process that decodes pictures: requests on its standard input, replies on its standard output.

Both are a length, a JSON head and bytes. The first reply, an empty one, says that it is up. It imports no
torch: it starts quickly and takes little memory.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from idefics2_engine import logs
from idefics2_engine.crops import cut
from idefics2_engine.images import InvalidImage, Sizing
from idefics2_engine.pictures import Bounds, decode_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from idefics2_engine.images import Crop

HEAD = struct.Struct("<II")  # bytes of the JSON head, and of what follows it
OVERRUN = signal.SIGPROF
"""Ends a worker that takes too much of the processor's time for one picture."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""
_LARGE_BYTES = 8 << 20
"""Larger blocks are whole pictures; smaller ones strips of them, and tables, which come again and again."""
_KEPT_BYTES = 16 << 20
_LEAST_SECONDS = 1.0
"""What any picture may take of the processor's time."""
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
    logs.configure()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _give_back_large_blocks()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    replies.write(pack({}, b""))
    replies.flush()
    while message := _read(sys.stdin.buffer):
        for part in _answer(*message, allowance):
            replies.write(part)  # type: ignore[arg-type]  # an array is a buffer, too
        replies.flush()
        del message, part  # so that nothing of a picture is held while waiting


class Allowance:
    """What one picture may take of the processor's time, and of memory beyond what an idle worker has.

    Memory is the same for all. The time is for the largest picture: a small one that takes as much was made
    for it.
    """

    def __init__(self, max_pixels: int, max_seconds: float, max_memory_bytes: int) -> None:
        """Give a picture of `max_pixels` all of it."""
        self.max_pixels = max_pixels
        self.max_memory_bytes = max_memory_bytes
        self._max_seconds = max(max_seconds, _LEAST_SECONDS)
        self._hard_limit = resource.getrlimit(resource.RLIMIT_AS)[1]

    def begin(self, num_file_bytes: int) -> None:
        """Let the header be read of a file that is in memory already, and counts."""
        self._limit_memory(_address_space_bytes() - num_file_bytes + self.max_memory_bytes)
        signal.setitimer(signal.ITIMER_PROF, _LEAST_SECONDS)

    def extend(self, num_pixels: int) -> None:
        """Let so many pixels be decoded."""
        more = (self._max_seconds - _LEAST_SECONDS) * num_pixels / self.max_pixels
        signal.setitimer(signal.ITIMER_PROF, signal.getitimer(signal.ITIMER_PROF)[0] + more)

    def finish_decoding(self) -> None:
        """Let the pixels be cut: it is known what that takes, and memory that was let go has addresses."""
        self._limit_memory(self._hard_limit)

    def end(self) -> None:
        """Let all be done that is no picture's."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._limit_memory(self._hard_limit)

    def _limit_memory(self, num_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, self._hard_limit))


def _give_back_large_blocks() -> None:
    """Keep glibc from keeping blocks of up to 32 MiB, once one of their size was freed, for later pictures.

    Nor may it give back all, and take it anew for each strip: of a wide picture that was half of the time.

    Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _read(stream: BinaryIO) -> tuple[dict[str, Any], io.BytesIO] | None:
    sizes = stream.read(HEAD.size)
    if len(sizes) < HEAD.size:
        return None
    num_head_bytes, num_bytes = HEAD.unpack(sizes)
    return json.loads(stream.read(num_head_bytes)), io.BytesIO(stream.read(num_bytes))


def _answer(head: dict[str, Any], file: io.BytesIO, allowance: Allowance) -> list[bytes | NDArray[np.uint8]]:
    """Return the parts of what is replied."""
    bounds = Bounds(allowance.max_pixels, allowance.max_memory_bytes, Sizing(**head["sizing"]))
    allowance.begin(file.getbuffer().nbytes)
    try:
        picture = decode_picture(file, bounds, allowance.extend, allowance.finish_decoding)
        return _list_parts(cut(picture, bounds.sizing, split=head["split"]))
    except InvalidImage as error:
        return [pack({"reason": error.reason, "problem": error.problem}, b"")]
    except MemoryError:
        problem = f"needs more than the {bounds.max_bytes} bytes of memory that decoding it may take"
        return [pack({"reason": "FILE_UNDECODABLE", "problem": problem}, b"")]
    finally:
        allowance.end()


def _list_parts(crops: list[Crop]) -> list[bytes | NDArray[np.uint8]]:
    """Make a message of crops without another copy of them."""
    text = json.dumps({"grids": [crop.grid for crop in crops]}).encode()
    num_bytes = sum(crop.patches.nbytes for crop in crops)
    return [HEAD.pack(len(text), num_bytes), text, *(crop.patches for crop in crops)]


if __name__ == "__main__":
    main()

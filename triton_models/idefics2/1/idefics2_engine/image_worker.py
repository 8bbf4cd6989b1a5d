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
from typing import Any, BinaryIO

from idefics2_engine.images import InvalidImage, Sizing, cut, decode_image

HEAD = struct.Struct("<II")  # bytes of the JSON head, and of what follows it
_PR_SET_PDEATHSIG = 1


def pack(head: dict[str, Any], data: bytes) -> bytes:
    """Make a message."""
    text = json.dumps(head).encode()
    return HEAD.pack(len(text), len(data)) + text + data


def main() -> None:
    """Be a worker: answer until there is no more to read."""
    parent, max_memory_bytes = (int(argument) for argument in sys.argv[1:])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to die with it
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    while message := _read(sys.stdin.buffer):
        replies.write(_answer(*message))
        replies.flush()


def _read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    sizes = stream.read(HEAD.size)
    if len(sizes) < HEAD.size:
        return None
    num_head_bytes, num_bytes = HEAD.unpack(sizes)
    return json.loads(stream.read(num_head_bytes)), stream.read(num_bytes)


def _answer(head: dict[str, Any], data: bytes) -> bytes:
    try:
        image = decode_image(data, head["max_pixels"])
        crops = cut(image, Sizing(**head["sizing"]), split=head["split"])
        return pack(
            {"grids": [crop.grid for crop in crops]}, b"".join(crop.patches.tobytes() for crop in crops)
        )
    except InvalidImage as error:
        return pack({"reason": error.reason, "problem": error.problem}, b"")
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        problem = f"needs more than the {limit} bytes of memory that decoding may take"
        return pack({"reason": "FILE_UNDECODABLE", "problem": problem}, b"")


if __name__ == "__main__":
    main()

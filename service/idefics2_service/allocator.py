"""The C library's allocator, told to give back at once what is large."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
_LARGE_BYTES = 3 * 2**20
_FREE_BYTES = 8 * 2**20
"""So much stays, that no message of an upload, of 1 MiB, has to be given its pages by the kernel anew."""
_MAX_ARENAS = 2


def tame() -> None:
    """Let large blocks be given back when they are freed, and threads share what is kept of small ones.

    By itself glibc keeps blocks of up to 32 MiB once one of their size was freed, for each thread apart:
    pieces of files that were uploaded long ago stay in memory. Does nothing where there is another C library.
    For the whole process; at its start, before there are threads.

    Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)
        mallopt(_M_ARENA_MAX, _MAX_ARENAS)

"""Large blocks that were freed are given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 8 * 2**20
PROGRAM = f"""
import ctypes, os, sys
import psutil
from idefics2_service import allocator

if sys.argv[1] == "tame":
    allocator.tame()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes, library.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]

def use():
    block = library.malloc({SIZE})
    ctypes.memset(block, 1, {SIZE})
    library.free(block)

use()
before = psutil.Process().memory_info().rss
use()
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.parametrize(("how", "is_kept"), [("tame", False), ("wild", True)])
def test_a_large_block_is_given_back_where_the_allocator_is_tame(how: str, *, is_kept: bool) -> None:
    command = [sys.executable, "-c", PROGRAM, how]
    kept = int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert (kept > SIZE / 2) is is_kept

"""What lasts is spared from the search for garbage."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from idefics2_service import garbage

built = [[] for _ in range(1000)]
if sys.argv[1] == "spared":
    garbage.spare_what_lasts()
full = []
gc.callbacks.append(lambda phase, facts: full.append(phase) if facts["generation"] == 2 else None)
running = [[] for _ in range(300_000)]
was_looked_at = any(objects is built[0] for objects in gc.get_objects())

class Circle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        gone.append(self)

gone = []
Circle()
later = [[] for _ in range(10_000)]
print(bool(full), was_looked_at, len(gone))
"""


@pytest.mark.parametrize(("how", "found"), [("spared", "False False 1"), ("as ever", "True True 1")])
def test_what_was_built_is_not_looked_at_and_what_came_since_seldom_and_young_garbage_goes(
    how: str, found: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, how]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout
    assert told.strip() == found

"""The program of the engine's process."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import gc, sys
from multiprocessing import Pipe
from bench.paced.engine import PacedEngine
from idefics2_engine import engine_program
from idefics2_engine.messages import Close

here, there = Pipe()
sys.argv = ["engine_program", str(there.fileno())]
built = []

def start(config):
    built.append([config])
    return PacedEngine.start(config)

def is_looked_at():
    return any(each is built[0] for each in gc.get_objects())

here.send("config")
here.send(Close())
engine_program.main(start)
later = [built]
print(is_looked_at(), any(each is later for each in gc.get_objects()))
"""


def test_no_search_for_garbage_looks_at_what_the_start_built() -> None:
    command = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120, text=True)
    assert told.stdout.strip() == "False True"

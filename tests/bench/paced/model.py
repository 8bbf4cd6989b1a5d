"""Our model with an engine in which a device seems to compute: only the way of the tokens is real.

Triton loads this file in the place of triton_models/idefics2/1/model.py, whose class it takes over, with the
engine's program that lies beside this file.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

REAL = Path(os.environ["IDEFICS2_BENCH_MODEL"])  # the folder of the model that is measured
sys.path.insert(0, str(REAL))

_specification = importlib.util.spec_from_file_location("served", REAL / "model.py")
assert _specification is not None  # the file is there
assert _specification.loader is not None
_served: Any = importlib.util.module_from_spec(_specification)
sys.modules["served"] = _served  # where its dataclasses look for themselves
_specification.loader.exec_module(_served)

_served.EngineProcess = partial(_served.EngineProcess, program=(str(Path(__file__).with_name("engine.py")),))
if os.environ.get("IDEFICS2_BENCH_SHOWS") == "nothing":
    _served.TritonMetrics.show = lambda *_: None
TritonPythonModel = _served.TritonPythonModel

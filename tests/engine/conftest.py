"""One engine on the embedded checkpoint, and transformers' own model beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine

MODEL_FOLDER = Path(__file__).parents[2] / "triton_models/idefics2"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine; each test leaves it idle."""
    return Engine(EngineConfig.read({}, {}, MODEL_FOLDER))


@pytest.fixture(scope="session")
def tokenizer(engine: Engine) -> Any:
    """The checkpoint's tokenizer."""
    return engine.processor.tokenizer

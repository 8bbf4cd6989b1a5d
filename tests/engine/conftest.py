"""One engine on the embedded checkpoint, and transformers' own model beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL_FOLDER = Path(__file__).parents[2] / "triton_models/idefics2"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine; each test leaves it idle."""
    made = Engine(EngineConfig.read({}, {}, MODEL_FOLDER))
    yield made
    made.close()


@pytest.fixture
def bfloat16_engine() -> Iterator[Engine]:
    """Another one, in the type that is the default on a GPU."""
    made = Engine(replace(EngineConfig.read({}, {}, MODEL_FOLDER), dtype="bfloat16"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Transformers, with the same checkpoint."""
    return Reference(str(MODEL_FOLDER / "checkpoints/tiny"))


@pytest.fixture(scope="session")
def tokenizer(engine: Engine) -> Any:
    """The checkpoint's tokenizer."""
    return engine.processor.tokenizer


@pytest.fixture(autouse=True)
def _nothing_known_before(request: pytest.FixtureRequest) -> None:
    """Begin each test with empty caches."""
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        engine.images.clear()
        engine.prefixes.clear()

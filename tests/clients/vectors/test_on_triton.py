"""Some of the vectors, with the model that ships; run by `make test-clients` alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from clients.vectors.book import select
from clients.vectors.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from clients.vectors.book import Vector
    from clients.vectors.runner import Runner
    from harness import Harness


@pytest.mark.skipif("CLIENT_LANGUAGES" not in os.environ, reason="needs Triton: make test-clients")
@pytest.mark.parametrize("vector", select("triton"), ids=lambda vector: vector.name)
async def test_the_service_with_its_model(
    runner: Runner, vector: Vector, tmp_path: Path, on_real_triton: Harness
) -> None:
    await Stage(runner, vector, tmp_path).perform_on(on_real_triton)

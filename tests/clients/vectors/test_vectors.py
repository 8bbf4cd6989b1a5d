"""Every language keeps every promise of clients/vectors, to a scripted service and to the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from clients.vectors.book import select
from clients.vectors.stage import API_KEY, Stage
from fakes.vector_server import VectorServer
from harness import Harness, MakeSettings, run_on_fake_backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from clients.vectors.book import Vector
    from clients.vectors.runner import Runner


@pytest.fixture(scope="session")
async def real_service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service over a fake model."""
    async with run_on_fake_backend(make_settings()) as harness:
        yield harness


@pytest.mark.parametrize("vector", select("fake"), ids=lambda vector: vector.name)
async def test_a_scripted_service(runner: Runner, vector: Vector, tmp_path: Path) -> None:
    if vector.max_growth_bytes:
        await runner.stop()  # memory that it had, and has no longer, would hide what it takes now
        # Nor does count what a program loads at its first call.
        await perform(Stage(runner, vector.with_small_file, tmp_path))
    stage = Stage(runner, vector, tmp_path)
    before = await runner.reset_peak()
    await perform(stage)
    assert not vector.max_growth_bytes or runner.peak_bytes - before <= vector.max_growth_bytes


async def perform(stage: Stage) -> None:
    """Put a scripted service behind a vector, and compare all that it sees."""
    with VectorServer(stage.server) as server:
        await stage.perform(server.target, API_KEY)
        if any("hang" in script["replies"] for script in stage.server):
            await asyncio.to_thread(server.wait_until_cancelled)
        server.check(stage.content)
        server.check_terms(stage.api_key, has_deadline=stage.has_deadline)


@pytest.mark.parametrize("vector", select("real"), ids=lambda vector: vector.name)
async def test_the_real_service(
    runner: Runner, vector: Vector, tmp_path: Path, real_service: Harness
) -> None:
    await Stage(runner, vector, tmp_path).perform_on(real_service)

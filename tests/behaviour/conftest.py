"""Each behaviour is asserted three times: over a fake backend, a scripted fake Triton, and the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness import Harness, MakeSettings, run_on_fake_backend, run_on_fake_triton

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def on_fake_backend(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service over a fake in its own process."""
    async with run_on_fake_backend(make_settings()) as harness:
        yield harness
        harness.check_script()


@pytest.fixture
async def on_fake_triton(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service over a fake that speaks Triton's protocol."""
    async with run_on_fake_triton(make_settings()) as harness:
        yield harness
        harness.check_script()


@pytest.fixture(params=["on_fake_backend", "on_fake_triton", "on_real_triton"])
def service(request: pytest.FixtureRequest) -> Harness:
    """The service over each of them in turn."""
    harness = request.getfixturevalue(request.param)
    assert isinstance(harness, Harness)
    return harness

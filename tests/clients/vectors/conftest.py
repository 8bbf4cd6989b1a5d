from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clients.languages import Language, find_selected
from clients.vectors.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_WITH_RUNNER = [language for language in find_selected() if language.runner]


@pytest.fixture(scope="session", params=_WITH_RUNNER, ids=lambda language: language.name)
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    """The program of one language, for all vectors."""
    assert isinstance(request.param, Language)
    runner = Runner(request.param)
    yield runner
    await runner.stop()

"""Where one vector is performed by one language."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.vectors.contents import Expansion
from clients.vectors.outcomes import check_outcome
from fakes.script import Answer
from ports import HOST, free_port

if TYPE_CHECKING:
    from clients.vectors.book import Vector
    from clients.vectors.runner import Runner
    from harness import Harness

API_KEY = "local.key"
_OTHER_KEY = "nobody.0123456789abcdef0123456789abcdef"


class Stage:
    """A vector, ready to be performed."""

    def __init__(self, runner: Runner, vector: Vector, folder: Path) -> None:
        """Prepare what the vector needs in `folder`."""
        self._runner = runner
        expansion = Expansion(folder, uuid.uuid4().hex[:8], vector.file)
        self._calls: list[dict[str, Any]] = expansion.expand(vector.calls)
        self.server: list[dict[str, Any]] = expansion.expand(vector.server)
        self.model = [_read_answer(answer) for answer in expansion.expand(vector.model)]
        self.content = expansion.content

    @property
    def has_deadline(self) -> bool:
        """Whether its calls have one."""
        return "deadline_ms" in self._calls[0]

    @property
    def api_key(self) -> str:
        """The key that a scripted service must see; empty: none."""
        return _choose_key(self._calls[0], API_KEY)

    async def perform(self, target: str, api_key: str) -> None:
        """Make all calls, and compare what comes of them."""
        for call in self._calls:
            told = {name: value for name, value in call.items() if name != "expect"}
            told["target"] = f"{HOST}:{free_port()}" if call.get("target") == "nobody" else target
            told["api_key"] = _choose_key(call, api_key)
            outcome = await self._runner.perform(told)
            check_outcome(call, outcome)
            if call["call"] == "download" and "error" not in outcome:
                self._check_file(Path(call["path"]))

    async def perform_on(self, service: Harness) -> None:
        """Make all calls to the service, whose model answers as the vector says, if it is a fake one."""
        service.expect(*self.model)
        await self.perform(service.app.grpc_address, str(service.app.api_key))
        service.check_script()

    def _check_file(self, path: Path) -> None:
        assert path.read_bytes() == self.content


def _choose_key(call: dict[str, Any], api_key: str) -> str:
    return {"missing": "", "wrong": _OTHER_KEY}.get(call.get("api_key", ""), api_key)


def _read_answer(answer: dict[str, Any]) -> Answer:
    return Answer(**{**answer, "pieces": tuple(answer.get("pieces", ()))})

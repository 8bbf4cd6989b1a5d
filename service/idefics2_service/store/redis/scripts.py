"""The Lua scripts that do every transition, and how they are called."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ResponseError

from idefics2_service.store.redis.connection import (
    FAULTS,
    MAX_CALLS,
    MAX_OWN_CALLS,
    TIMEOUT_SECONDS,
    is_demoted,
)
from idefics2_service.store.refusals import closed, unavailable
from idefics2_service.store.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

logger = structlog.get_logger(__name__)

Argument = str | bytes | int | float
Value = Argument | None
"""Of an argument; None leaves it out."""
_FOLDER = Path(__file__).parent / "lua"
_OF_CALLERS = frozenset({"cancel", "events", "get", "list_page", "log_lines", "shed", "submit"})
"""Scripts whose turns callers' keys share. All others are the service's own, by which leases are kept and
requests come to their end: no caller may hold them up, so they have turns beside those, and share them by
their names."""


class Scripts:
    """All scripts over one client. A server that forgot a script is told it again."""

    def __init__(self, client: Redis, key_prefix: str, constants: Mapping[str, Value]) -> None:
        """Let all keys begin with `key_prefix`; each call has `constants` among its arguments."""
        shared = "\n".join(path.read_text() for path in sorted((_FOLDER / "shared").glob("*.lua")))
        self._scripts: dict[str, AsyncScript] = {
            path.stem: client.register_script(f"{shared}\n{path.read_text()}")
            for path in _FOLDER.glob("*.lua")
        }
        self._client = client
        self._key_prefix = key_prefix
        self._constants = constants
        self._calls: set[asyncio.Task[Any]] = set()
        self._turns, self._own_turns = Turns(MAX_CALLS), Turns(MAX_OWN_CALLS)
        self._answered_at = -math.inf
        self._is_closed = False
        self._refused: dict[str, str] = {}  # scripts that the server refused the last time, and its words

    async def call(
        self,
        name: str,
        given: Mapping[str, Value] = {},
        events: Sequence[bytes] = (),
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> Any:
        """Run `lua/<name>.lua` and return its answer, texts as bytes.

        `check` may ask the server, too. It is awaited first, in the same turn, lest it wait for a connection;
        what it raises is raised.

        Who leaves does not undo what is sent; what waits for a turn to be sent is not sent any more.

        Raises:
            StoreUnavailable: the server did not answer or refused; what was asked may be done or not. Or it
                answered nobody while this waited for a turn.

        """
        if self._is_closed:
            raise closed()
        give_back = await self._take_turn(name, given)
        call = asyncio.create_task(self._run(name, self._flatten(given, events), check))
        self._calls.add(call)
        call.add_done_callback(partial(self._end, give_back))
        return await asyncio.shield(call)

    async def _take_turn(self, name: str, given: Mapping[str, Value]) -> Callable[[], None]:
        """Wait for a turn; return what gives it back."""
        is_of_callers = name in _OF_CALLERS
        turns, share = (self._turns, str(given["key_id"])) if is_of_callers else (self._own_turns, name)
        try:
            async with self._patience():
                await turns.take(share)
        except TimeoutError as error:
            raise unavailable(error) from error
        return partial(turns.give_back, share)

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Wait inside for as long as the server answers others.

        A burst may take a server that is well longer than TIMEOUT_SECONDS, and is served to its end. One that
        has answered nobody for so long is away: if all who wait tried it in their turn, the last ones would
        hear so after minutes, and hold room meanwhile.

        Raises:
            TimeoutError: it has answered nobody for TIMEOUT_SECONDS.

        """
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        looking: asyncio.TimerHandle
        async with asyncio.timeout(None) as waiting:

            def look() -> None:
                nonlocal looking
                until = max(came_at, self._answered_at) + TIMEOUT_SECONDS
                if until > loop.time():
                    looking = loop.call_at(until, look)
                else:
                    waiting.reschedule(until)

            looking = loop.call_at(came_at + TIMEOUT_SECONDS, look)
            try:
                yield
            finally:
                looking.cancel()

    def _end(self, give_back: Callable[[], None], call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        give_back()
        if not call.cancelled():
            call.exception()  # heard, even where who asked has left

    async def _run(
        self, name: str, arguments: Iterable[Argument], check: Callable[[], Awaitable[None]] | None
    ) -> Any:
        if check is not None:
            await check()
        try:
            answer = await self._scripts[name](keys=[self._key_prefix], args=arguments)
        except FAULTS as error:
            if isinstance(error, ResponseError):
                self._note_answer()
                self._note_refusal(name, str(error))
            if is_demoted(error):
                await self._leave()
            raise unavailable(error) from error
        self._note_answer()
        self._note_success(name)
        return answer

    async def _leave(self) -> None:
        """Connect anew to a server that was demoted, for its name may lead to another one now.

        It goes on to answer what reads: connections that are in use are given up with their answers, and that
        of the subscription by itself.
        """
        pool = self._client.connection_pool
        with suppress(*FAULTS):
            await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            await pool.disconnect(inuse_connections=False)

    def _note_answer(self) -> None:
        self._answered_at = asyncio.get_running_loop().time()

    def _note_refusal(self, name: str, words: str) -> None:
        """Say so once, not at each call."""
        if self._refused.get(name) != words:
            logger.error("the store refuses a script", script=name, error=words)
        self._refused[name] = words

    def _note_success(self, name: str) -> None:
        if self._refused.pop(name, None) is not None:
            logger.info("the store takes a script again", script=name)

    def _flatten(self, given: Mapping[str, Value], events: Sequence[bytes]) -> list[Argument]:
        """Write arguments as lua/shared/1_keys.lua reads them: names and values in turn."""
        named = {**self._constants, **given}.items()
        flat = [part for name, value in named if value is not None for part in (name, value)]
        return [*flat, *(part for event in events for part in ("event", event))]

    async def close(self) -> None:
        """Let nothing be asked any more, and close all connections when all is answered."""
        self._is_closed = True
        for turns in (self._turns, self._own_turns):
            await turns.wait_until_all_are_free()
        await self._client.aclose()

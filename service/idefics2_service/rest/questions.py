"""How a question's body is read: little of it stays in memory while the question is answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request

from idefics2_service.rest.bodies import GenerateBody

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response


class QuestionRoute(APIRoute):
    """A route whose body, if it takes one, is a question."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handle a call as others are, but for how its body is read."""
        handle = super().get_route_handler()

        async def handle_question(request: Request) -> Response:
            return await handle(_Question(request.scope, request.receive))

        return handle_question


class _Question(Request):
    """A call whose body is counted once while it is held, so that it must not be kept in several forms.

    FastAPI keeps what `body` and `json` return until the call is over.
    """

    _data: bytearray

    async def body(self) -> bytearray:  # type: ignore[override]  # bytes that can be let go
        """Read all that the caller sends; `json` empties it."""
        self._data = bytearray()
        async for chunk in self.stream():
            self._data += chunk
        return self._data

    async def json(self) -> Any:
        """Return the question, or else the fields that it may have, for FastAPI to say what is wrong.

        Read from bytes, a text is as wide as its own characters make it: one beyond the first 65,536 code
        points takes four bytes for each of its neighbours, which would be the whole body's.
        """
        try:
            return GenerateBody.model_validate_json(self._data)
        except ValidationError:
            return _keep_known(json.loads(self._data))
        finally:
            self._data.clear()


def _keep_known(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {name: value for name, value in fields.items() if name in GenerateBody.model_fields}

"""The tensors of requests and responses: what they hold, as the engine's types."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from idefics2_engine.errors import InvalidRequest
from idefics2_engine.names import find_share
from idefics2_engine.outbox import join_text
from idefics2_engine.requests import Event, TextDelta


class Tensors:
    """The inputs of one request.

    Whatever reads them raises InvalidRequest for what is known to be wrong of them.
    """

    def __init__(self, request: Any) -> None:  # Triton is untyped
        """Read nothing yet."""
        self._request = request

    @property
    def share(self) -> str:
        """Whom the request is for."""
        return find_share(self._request.parameters())

    def values(self, name: str) -> list[Any]:
        """Return what a tensor holds, whatever its shape; nothing of one that is not there."""
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        if tensor is None:
            return []
        array = tensor.as_numpy()
        if (size := array.shape[0]) != 1:
            message = f"{name} must have a batch dimension of 1, not of {size}: send one request each"
            raise InvalidRequest("REQUEST_MALFORMED", message, name)
        return list(array.reshape(-1).tolist())

    def value(self, name: str, default: Any) -> Any:
        """Return the first value of a tensor."""
        values = self.values(name)
        return values[0] if values else default

    def pairs(self, name: str) -> list[tuple[Any, Any]]:
        """Return the values of a tensor, two by two."""
        values = self.values(name)
        if len(values) % 2:
            message = f"{name} must hold pairs, not {len(values)} values"
            raise InvalidRequest("REQUEST_MALFORMED", message, name)
        return list(zip(values[::2], values[1::2], strict=True))

    def text(self, name: str, default: str) -> str:
        """Return the first text of a tensor."""
        value = self.value(name, default.encode())
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest("TEXT_NOT_UNICODE", f"{name} is not valid UTF-8", name) from error


def make_response(events: list[Event], *, done: bool) -> Any:
    """Write events as one response; `done`: nothing follows."""
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    told = json.dumps([{"type": type(event).__name__, **asdict(event)} for event in join_text(events)])
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("text", np.array([[text.encode()]], dtype=np.object_)),
            pb_utils.Tensor("events", np.array([[told.encode()]], dtype=np.object_)),
            pb_utils.Tensor("done", np.array([[done]], dtype=np.bool_)),
        ]
    )

"""Triton's side of the engine, over a stand-in for Triton's module, where a response is not sent."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_engine.requests import Event, Finished, StageEntered, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

FINAL = 1
FINISHED = Finished("END_OF_TURN", 1, 1, 2)


@dataclass
class Sender:
    """A way back to a caller that fails at some sends."""

    broken: set[int]
    """By number, from 0."""
    sent: list[tuple[list[dict[str, Any]], int]] = field(default_factory=list)
    """Events, and flags."""
    num_tried: int = 0

    def send(self, response: Any = None, flags: int = 0) -> None:
        """As Triton's."""
        self.num_tried += 1
        if self.num_tried - 1 in self.broken:
            raise RuntimeError("there is no room in shared memory")
        told = [] if response is None else json.loads(response["events"].item())
        self.sent.append((told, flags))

    def is_cancelled(self) -> bool:
        """As Triton's."""
        return False


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with what it needs of Triton's own."""
    utils = ModuleType("triton_python_backend_utils")
    given = SimpleNamespace(
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
        Tensor=lambda name, array: (name, array),
        InferenceResponse=dict,
    )
    utils.__dict__.update(vars(given))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    yield importlib.import_module("model")
    for name in ("model", "triton_metrics"):
        sys.modules.pop(name, None)


def make_instance(triton: Any, sender: Sender) -> tuple[Any, list[str]]:
    """Return an instance that answers one request, `one`, and who is cancelled."""
    cancelled: list[str] = []
    instance = triton.TritonPythonModel.__new__(triton.TritonPythonModel)
    instance._lock, instance._engine = threading.Lock(), SimpleNamespace(cancel=cancelled.append)
    instance._streams = {"one": triton.Stream("", sender)}
    return instance, cancelled


def send(instance: Any, *events: Event) -> None:
    """Send, as the outbox does, which takes note of what fails and goes on."""
    try:
        instance._send("one", list(events))
    except RuntimeError:
        return


def test_an_answer_of_which_a_piece_was_not_sent_does_not_look_whole(triton: Any) -> None:
    sender = Sender(broken={1})
    instance, cancelled = make_instance(triton, sender)
    send(instance, StageEntered("DECODE"))
    send(instance, TextDelta("A red ", 2))
    send(instance, TextDelta("circle ", 3))
    assert cancelled == ["one"]
    send(instance, TextDelta("on white.", 4), FINISHED)  # it had ended before it could be cancelled
    (first, _), (last, flags) = sender.sent
    assert [event["type"] for event in first] == ["StageEntered"]
    assert [(event["type"], event["reason"]) for event in last] == [("Failed", "BACKEND_UNAVAILABLE")]
    assert flags == FINAL
    assert not instance._streams


def test_an_answer_whose_last_piece_cannot_be_sent_is_closed_without_an_end(triton: Any) -> None:
    sender = Sender(broken={1})
    instance, _ = make_instance(triton, sender)
    send(instance, TextDelta("A red circle.", 4))
    send(instance, FINISHED)
    assert sender.sent[1:] == [([], FINAL)]
    assert not instance._streams

"""Triton's side of the engine, over a stand-in for Triton's module, where a response is not sent."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from idefics2_engine.metrics import SERIES
from idefics2_engine.requests import Event, Failed, Finished, StageEntered, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

FINAL = 1
PATIENCE_SECONDS = 60
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
        get_input_tensor_by_name=lambda request, name: request.tensors.get(name),
    )
    utils.__dict__.update(vars(given))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    yield importlib.import_module("model")
    for name in ("model", "triton_metrics", "triton_tensors"):
        sys.modules.pop(name, None)


@dataclass
class Asked:
    """A request, as far as it is read."""

    tensors: dict[str, Any]

    def request_id(self) -> str:
        """As Triton's."""
        return "one"

    def parameters(self) -> str:
        """As Triton's."""
        return "{}"

    def get_response_sender(self) -> Sender:
        """As Triton's."""
        return Sender(broken=set())


class Nameless(Asked):
    """One whose id is no text, as it may come over HTTP."""

    def request_id(self) -> str:
        """As Triton's."""
        return b"bad\xff".decode()


@dataclass
class Tensor:
    """A tensor of one request."""

    values: list[Any]
    error: Exception | None = None
    """What reading it raises."""

    def as_numpy(self) -> Any:
        """As Triton's."""
        if self.error is not None:
            raise self.error
        return np.array([self.values])


def begin(triton: Any, request: Asked, error: Exception | None = None) -> Event | None:
    """Give a request to an instance; return how it ended at once, where the engine raises `error`."""

    def take(*_: Any, **__: Any) -> None:
        if error is not None:
            raise error

    told: list[tuple[str, Event]] = []
    instance = triton.TritonPythonModel.__new__(triton.TritonPythonModel)
    instance._lock, instance._streams = threading.Lock(), {}
    instance._config = SimpleNamespace(max_new_tokens=512)
    instance._engine = SimpleNamespace(submit=take, cancel=take, ping=take, count=take)
    instance._outbox = SimpleNamespace(put=lambda name, event: told.append((name, event)))
    instance.execute([request])
    assert [name for name, _ in told] == list(instance._streams)[: len(told)]
    return told[0][1] if told else None


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


def test_an_answer_that_cannot_be_closed_at_first_is_closed_later(
    triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "SECONDS_BETWEEN_CLOSES", (0, 0, 0))
    sender = Sender(broken={1, 2, 3, 4})
    instance, _ = make_instance(triton, sender)
    send(instance, TextDelta("A red circle.", 4))
    send(instance, FINISHED)
    assert sender.sent[1:] == [([], FINAL)]
    assert not instance._streams


def ask(**tensors: Tensor) -> Asked:
    """Ask of a picture, by these tensors, too."""
    return Asked({"prompt": Tensor([b"What is this?"]), "image": Tensor([b"a picture"]), **tensors})


@pytest.mark.parametrize("operation", [b"generate", b"cancel", b"ping", b"count"])
def test_a_lack_of_memory_as_a_request_is_handed_on_is_none_of_the_callers(
    triton: Any, operation: bytes
) -> None:
    request = ask(operation=Tensor([operation]), target=Tensor([b"one"]))
    assert begin(triton, request) is None
    failed = begin(triton, request, MemoryError())
    assert isinstance(failed, Failed)
    assert failed.reason == "BACKEND_UNAVAILABLE"


def test_a_lack_of_memory_as_tensors_are_read_is_none_of_the_callers(triton: Any) -> None:
    failed = begin(triton, ask(image=Tensor([], MemoryError())))
    assert isinstance(failed, Failed)
    assert failed.reason == "BACKEND_UNAVAILABLE"


def test_what_nobody_foresaw_as_a_request_is_handed_on_is_a_fault_of_ours(triton: Any) -> None:
    failed = begin(triton, ask(), RuntimeError("nobody knows"))
    assert failed == Failed("INTERNAL_ERROR", "the model's server failed to take the request")


@pytest.mark.parametrize(
    ("name", "operation", "values", "reason"),
    [
        ("image_size", b"count", [640, 480, 320], "REQUEST_MALFORMED"),
        ("prompt", b"generate", [b"\xff"], "TEXT_NOT_UNICODE"),
        ("target", b"cancel", [b""], "VALUE_OUT_OF_RANGE"),
        ("operation", b"", [b"guess"], "VALUE_OUT_OF_RANGE"),
    ],
)
def test_what_is_wrong_of_a_tensor_is_told_with_its_name(
    triton: Any, name: str, operation: bytes, values: list[Any], reason: str
) -> None:
    failed = begin(triton, ask(**{"operation": Tensor([operation]), name: Tensor(values)}))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.field) == (reason, name)


def test_what_cannot_be_read_is_the_callers_fault(triton: Any) -> None:
    failed = begin(triton, ask(stop=Tensor([b"good", b"\xff"])))
    assert failed == Failed("REQUEST_MALFORMED", "the tensors of the request cannot be read")


def test_a_request_whose_id_is_no_text_is_taken_without_one(triton: Any) -> None:
    assert begin(triton, Nameless(ask().tensors)) is None


class Metric:
    """A metric; all tell of each time that they are written, the first of which fails."""

    tries: SimpleQueue[Metric] = SimpleQueue()
    num_failures = 1

    def __init__(self, labels: dict[str, str]) -> None:
        """Be 0."""
        self.value = 0.0

    def set(self, value: float) -> None:
        """As Triton's."""
        self.increment(value - self.value)

    def increment(self, by: float) -> None:
        """As Triton's."""
        Metric.tries.put(self)
        if Metric.num_failures:
            Metric.num_failures -= 1
            raise RuntimeError("there is no room in shared memory")
        self.value += by


class MetricFamily:
    """As Triton's."""

    COUNTER, GAUGE = range(2)
    Metric = Metric

    def __init__(self, **_: Any) -> None:
        """Know nothing."""


@pytest.mark.usefixtures("triton")
def test_figures_that_cannot_be_shown_are_shown_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["triton_metrics"]
    monkeypatch.setattr(module.pb_utils, "MetricFamily", MetricFamily, raising=False)
    metrics = module.TritonMetrics("engine")
    metrics.show((1.0,) * len(SERIES))
    Metric.tries.get(timeout=PATIENCE_SECONDS)
    metrics.show((2.0,) * len(SERIES))
    for _ in SERIES:
        Metric.tries.get(timeout=PATIENCE_SECONDS)
    metrics.close()
    assert {metric.value for metric in metrics._metrics} == {2.0}

"""Front and model speak the same language: tensors as config.pbtxt declares them, events as they are."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from idefics2_engine import requests as engine
from idefics2_engine.config import EngineConfig
from idefics2_engine.names import find_share
from idefics2_service.backend import BackendFinished
from idefics2_service.errors import BackendUnavailable, InternalError, RequestCancelled, ServiceError
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import (
    FinishReason,
    ImageFile,
    RequestName,
    ResolvedRequest,
    Stage,
    TokenCount,
    Usage,
    ValidRequest,
)
from idefics2_service.triton import tensors
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import deserialize_bytes_tensor

MODEL_FOLDER = Path(__file__).parents[2] / "triton_models/idefics2"
CONFIG = text_format.Parse((MODEL_FOLDER / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
DECLARED = {tensor.name: tensor for tensor in CONFIG.input}
NUMPY_TYPES = {"INT32": np.int32, "FP64": np.float64, "UINT64": np.uint64, "BOOL": np.bool_}

IMAGES = (
    ImageFile("image_url", b"\x89PNG\x00one", "PNG", 20, 10),
    ImageFile("images[0].data", b"two", "JPEG", 3, 4),
    ImageFile("images[1].url", b"\xff\xd8", "JPEG", 5, 6),
)
FULL = ValidRequest(
    prompt="Où? 日本",
    images=(),
    max_new_tokens=4096,
    repetition_penalty=1.2,
    temperature=0.001,
    top_p=0.8,
    top_k=1000,
    seed=2**64 - 1,
    stop=("\n\n", "é"),
    split_images=False,
    max_image_bytes=1,
    min_new_tokens=3,
)
PLAIN = dataclasses.replace(FULL, stop=(), split_images=None, top_k=0, seed=0)
NAME = RequestName("the key", "the request")
WRITTEN = {
    "generate, everything set": tensors.generate_request("m", "id", ResolvedRequest(NAME, FULL, IMAGES)),
    "generate, nothing set": tensors.generate_request("m", "id", ResolvedRequest(NAME, PLAIN, IMAGES[:1])),
    "count": tensors.count_request("m", "What?", IMAGES, split_images=True),
    "count, one image": tensors.count_request("m", "What?", IMAGES[:1], split_images=None),
    "cancel": tensors.cancel_request("m", "other"),
    "ping": tensors.ping_request("m"),
}


def read_inputs(message: Any) -> dict[str, list[Any]]:
    """Read the inputs of a request as Triton would."""
    values = {}
    for tensor, raw in zip(message.inputs, message.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            array = deserialize_bytes_tensor(raw)
        else:
            array = np.frombuffer(raw, NUMPY_TYPES[tensor.datatype])
        values[tensor.name] = array.reshape(tuple(tensor.shape))[0].tolist()
    return values


def respond(*events: engine.Event, order: tuple[str, ...] = ("text", "events", "done")) -> Any:
    """Write events as triton_tensors.py does."""
    told = json.dumps([{"type": type(event).__name__, **dataclasses.asdict(event)} for event in events])
    contents = {"text": b"unread", "events": told.encode(), "done": b"unread"}
    response = service_pb2.ModelInferResponse()
    for name in order:
        response.outputs.add(name=name, datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(struct.pack("<I", len(contents[name])) + contents[name])
    return response


def read(*events: engine.Event) -> list[tensors.ModelEvent]:
    """Pass events from the engine to the front."""
    return list(tensors.read_events(respond(*events), IMAGES))


def fail(reason: str, message: str, field: str = "", **facts: str) -> ServiceError:
    """Pass an error from the engine to the front."""
    with pytest.raises(ServiceError) as caught:
        read(engine.Failed(reason, message, field, **facts))  # type: ignore[arg-type]  # texts, all that are used
    return caught.value


@pytest.mark.parametrize("case", WRITTEN)
def test_every_input_is_declared_with_its_type_and_shape(case: str) -> None:
    message = WRITTEN[case]
    names = [tensor.name for tensor in message.inputs]
    assert len(set(names)) == len(names) == len(message.raw_input_contents) > 0
    for tensor in message.inputs:
        declared = DECLARED[tensor.name]
        kind = model_config_pb2.DataType.Name(declared.data_type).removeprefix("TYPE_")
        assert tensor.datatype == kind.replace("STRING", "BYTES"), tensor.name
        batch, *dims = tensor.shape
        assert batch == 1
        assert len(dims) == len(declared.dims)
        assert all(want in (-1, have) and have > 0 for want, have in zip(declared.dims, dims, strict=True))


def test_all_that_the_model_declares_is_used_and_none_of_it_is_required() -> None:
    assert {tensor.name for message in WRITTEN.values() for tensor in message.inputs} == set(DECLARED)
    assert all(tensor.optional for tensor in DECLARED.values())


def test_inputs_of_any_length_do_not_keep_requests_from_being_batched() -> None:
    ragged = {name for name, tensor in DECLARED.items() if tensor.allow_ragged_batch}
    assert ragged == {name for name, tensor in DECLARED.items() if list(tensor.dims) == [-1]}


def test_the_model_reads_what_it_declares_and_writes_what_it_declares() -> None:
    source = "".join((MODEL_FOLDER / "1" / name).read_text() for name in ("model.py", "triton_tensors.py"))
    assert set(re.findall(r'tensors\.\w+\("(\w+)"', source)) == set(DECLARED)
    written = re.findall(r'pb_utils\.Tensor\("(\w+)"', source)
    assert written == [tensor.name for tensor in CONFIG.output]


def test_the_parameters_of_the_model_are_the_engines_defaults() -> None:
    declared = {key: value.string_value for key, value in CONFIG.parameters.items()}
    assert declared == {key: str(value) for key, value in dataclasses.asdict(EngineConfig()).items()}


def test_a_request_says_what_the_caller_said() -> None:
    assert read_inputs(WRITTEN["generate, everything set"]) == {
        "prompt": ["Où? 日本".encode()],
        "image": [b"\x89PNG\x00one", b"two", b"\xff\xd8"],
        "max_new_tokens": [4096],
        "min_new_tokens": [3],
        "repetition_penalty": [1.2],
        "temperature": [0.001],
        "top_p": [0.8],
        "top_k": [1000],
        "seed": [2**64 - 1],
        "stop": [b"\n\n", "é".encode()],
        "split_images": [False],
    }
    message = WRITTEN["generate, everything set"]
    assert (message.model_name, message.id) == ("m", "id")


def test_a_request_tells_its_id_and_by_the_same_name_each_time_whom_it_is_for_but_not_the_keys_id() -> None:
    def write(key_id: str) -> dict[str, str]:
        message = tensors.generate_request("m", "id", ResolvedRequest(RequestName(key_id, "r"), FULL, IMAGES))
        return {name: value.string_param for name, value in message.parameters.items()}

    first, again, other = write("Müller"), write("Müller"), write("Meier")
    assert first["request_id"] == "r"
    assert find_share(json.dumps(first)) == first["share"]
    assert first == again
    assert other["share"] not in {first["share"], ""}
    assert "ller" not in first["share"]


def test_a_request_leaves_out_what_has_no_items_and_what_was_not_asked_for() -> None:
    missing = set(read_inputs(WRITTEN["generate, everything set"])) - set(
        read_inputs(WRITTEN["generate, nothing set"])
    )
    assert missing == {"stop", "split_images"}


def test_all_sampling_parameters_of_the_engine_are_sent() -> None:
    sampling = {field.name for field in dataclasses.fields(engine.SamplingParams)}
    assert sampling <= set(read_inputs(WRITTEN["generate, everything set"]))


def test_counting_sends_width_and_height_and_no_picture() -> None:
    assert read_inputs(WRITTEN["count"]) == {
        "operation": [b"count"],
        "prompt": [b"What?"],
        "image_size": [20, 10, 3, 4, 5, 6],
        "split_images": [True],
    }


def test_cancelling_names_its_target_and_a_ping_says_nothing() -> None:
    assert read_inputs(WRITTEN["cancel"]) == {"operation": [b"cancel"], "target": [b"other"]}
    assert read_inputs(WRITTEN["ping"]) == {"operation": [b"ping"]}


EVENTS: list[tuple[engine.Event, tensors.ModelEvent]] = [
    (engine.StageEntered("PREFILL"), StageEntered(Stage.PREFILL)),
    (engine.StageEntered("DECODE"), StageEntered(Stage.DECODE)),
    (engine.TextDelta('é "\\\n\u2028 👩‍👧', 3), TextDelta('é "\\\n\u2028 👩‍👧', 3)),
    (
        engine.Finished("LENGTH", 30, 18, 9, 16, 1, {"preprocess": 0.5, "queue": 9.0, "vision": 0.25}),
        BackendFinished(FinishReason.LENGTH, Usage(30, 18, 9, 16, 1), 0.5, 0.25),
    ),
    (engine.Counted(1, 2, 3, 4), TokenCount(1, 2, 3, 4)),
    (engine.Alive(), None),
]


@pytest.mark.parametrize(("written", "expected"), EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_of_the_engine_is_read_as_what_it_means(
    written: engine.Event, expected: tensors.ModelEvent
) -> None:
    assert read(written) == [expected]


def test_there_is_no_kind_of_event_that_the_front_does_not_know() -> None:
    tried = {type(event) for event, _ in EVENTS} | {engine.Failed, engine.Cancelled}
    assert tried == set(typing.get_args(engine.Event))


def test_every_word_of_the_engine_is_one_of_the_fronts() -> None:
    stages = typing.get_args(typing.get_type_hints(engine.StageEntered)["stage"])
    assert set(stages) == {Stage.PREFILL.value, Stage.DECODE.value}
    reasons = typing.get_args(typing.get_type_hints(engine.Finished)["finish_reason"])
    assert set(reasons) == {reason.value for reason in FinishReason}
    for reason in reasons:
        (event,) = read(engine.Finished(reason, 1, 1, 1))
        assert isinstance(event, BackendFinished)
        assert event.finish_reason.value == reason


def test_several_events_in_one_response_are_read_in_order() -> None:
    written, expected = zip(*EVENTS, strict=True)
    assert read(*written) == list(expected)


@pytest.mark.parametrize("order", [("events",), ("done", "text", "events"), ("events", "text", "done")])
def test_events_are_found_by_the_name_of_their_tensor(order: tuple[str, ...]) -> None:
    assert list(tensors.read_events(respond(engine.Alive(), order=order), ())) == [None]


def test_what_came_before_an_error_is_read_first() -> None:
    events = tensors.read_events(respond(engine.TextDelta("A", 1), engine.Failed("QUEUE_FULL", "full")), ())
    assert next(events) == TextDelta("A", 1)
    with pytest.raises(ServiceError):
        next(events)


def test_a_cancelled_request_is_an_error_of_its_own() -> None:
    with pytest.raises(RequestCancelled):
        read(engine.Cancelled())


@pytest.mark.parametrize("index", range(3))
def test_an_image_is_named_by_the_callers_field(index: int) -> None:
    name = IMAGES[index].field
    error = fail("FILE_UNDECODABLE", f"images[{index}] is damaged", f"images[{index}]")
    assert (error.reason, error.field, error.message) == ("FILE_UNDECODABLE", name, f"{name} is damaged")


@pytest.mark.parametrize("field", ["prompt", "images", "images[3]", ""])
def test_other_fields_keep_their_names(field: str) -> None:
    error = fail("VALUE_OUT_OF_RANGE", f"{field} is wrong", field)
    assert (error.field, error.message) == (field, f"{field} is wrong")


def test_a_bound_and_what_passed_it_come_from_the_engine_to_the_caller() -> None:
    error = fail("CONTEXT_EXCEEDED", "too long", "prompt", bound="2048", value="10142")
    assert error.metadata == {"field": "prompt", "bound": "2048", "value": "10142"}
    assert fail("CONTEXT_EXCEEDED", "too long", "prompt").metadata == {"field": "prompt"}


def test_a_reason_that_the_front_does_not_know_is_a_fault_of_ours() -> None:
    assert type(fail("NO_SUCH_REASON", "what")) is InternalError


def test_a_model_that_is_full_is_not_there_for_now_and_had_nothing_of_the_request() -> None:
    error = fail("QUEUE_FULL", "256 requests are open")
    assert isinstance(error, BackendUnavailable)
    assert not error.was_sent
    assert "256 requests are open" in error.message


def test_an_engine_that_is_lost_may_have_had_the_request_unless_it_was_lost_before() -> None:
    for event in (engine.LOST, engine.LOST_BEFORE):
        with pytest.raises(BackendUnavailable, match=event.message) as caught:
            read(event)
        assert caught.value.was_sent is not event.was_lost_before


def test_a_model_of_the_version_before_does_not_say_what_it_took_and_may_have_taken_it() -> None:
    told = [{"type": "Failed", "reason": "BACKEND_UNAVAILABLE", "message": "lost", "field": ""}]
    response = respond()
    content = json.dumps(told).encode()
    response.raw_output_contents[1] = struct.pack("<I", len(content)) + content
    with pytest.raises(BackendUnavailable) as caught:
        list(tensors.read_events(response, IMAGES))
    assert caught.value.was_sent


def test_an_event_that_the_front_does_not_know_is_no_answer() -> None:
    class Surprise(engine.Alive):
        pass

    with pytest.raises(ValueError, match="Surprise"):
        read(Surprise())

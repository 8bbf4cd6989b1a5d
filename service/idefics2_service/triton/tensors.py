"""The model's tensors on Triton's wire: requests out, events in."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

from idefics2_service.backend import BackendEvent, BackendFinished
from idefics2_service.errors import BackendUnavailable, QueueFull, RequestCancelled, ServiceError, error_for
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import (
    FinishReason,
    ImageFile,
    ResolvedRequest,
    Stage,
    TokenCount,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Triton's data types and how struct packs one element of each.
_PACKED = {"INT32": "i", "FP64": "d", "UINT64": "Q", "BOOL": "?"}


ModelEvent = BackendEvent | TokenCount | None
"""What the model says; None is the answer to a ping."""


class RequestWriter:
    """Builds one ModelInferRequest, input by input."""

    def __init__(self, model_name: str, request_id: str) -> None:
        """Begin without inputs."""
        self.message = service_pb2.ModelInferRequest(model_name=model_name, id=request_id)

    def numbers(self, name: str, datatype: str, *values: float) -> RequestWriter:
        """Add an input of shape [1, len(values)]."""
        self._add(name, datatype, len(values), struct.pack(f"<{len(values)}{_PACKED[datatype]}", *values))
        return self

    def texts(self, name: str, *values: bytes) -> RequestWriter:
        """Add an input of byte strings, of shape [1, len(values)]."""
        raw = b"".join(part for value in values for part in (struct.pack("<I", len(value)), value))
        self._add(name, "BYTES", len(values), raw)
        return self

    def _add(self, name: str, datatype: str, count: int, raw: bytes) -> None:
        self.message.inputs.add(name=name, datatype=datatype, shape=[1, count])
        self.message.raw_input_contents.append(raw)


def generate_request(
    model_name: str, model_id: str, resolved: ResolvedRequest, traceparent: str = ""
) -> service_pb2.ModelInferRequest:
    """Write a request to generate; all inputs are sent, those of lists only where they have items.

    Its own id, which `model_id` need not be, goes as a parameter, for the model's log; so does `traceparent`,
    where there is one: a backend sees no headers. So does whom it is for, by a name that says nothing else.
    """
    request = resolved.request
    writer = (
        RequestWriter(model_name, model_id)
        .texts("prompt", request.prompt.encode())
        .texts("image", *(image.data for image in resolved.images))
        .numbers("max_new_tokens", "INT32", request.max_new_tokens)
        .numbers("min_new_tokens", "INT32", request.min_new_tokens)
        .numbers("repetition_penalty", "FP64", request.repetition_penalty)
        .numbers("temperature", "FP64", request.temperature)
        .numbers("top_p", "FP64", request.top_p)
        .numbers("top_k", "INT32", request.top_k)
        .numbers("seed", "UINT64", request.seed)
    )
    if request.stop:
        writer.texts("stop", *(text.encode() for text in request.stop))
    if request.split_images is not None:
        writer.numbers("split_images", "BOOL", request.split_images)
    writer.message.parameters["request_id"].string_param = resolved.name.request_id
    writer.message.parameters["share"].string_param = _name_share(resolved.name.key_id)
    if traceparent:
        writer.message.parameters["traceparent"].string_param = traceparent
    return writer.message


def count_request(
    model_name: str, prompt: str, images: Sequence[ImageFile], *, split_images: bool | None
) -> service_pb2.ModelInferRequest:
    """Write a request to count: the sizes of the images go, not the images."""
    sizes = [side for image in images for side in (image.width, image.height)]
    writer = (
        RequestWriter(model_name, "")
        .texts("operation", b"count")
        .texts("prompt", prompt.encode())
        .numbers("image_size", "INT32", *sizes)
    )
    if split_images is not None:
        writer.numbers("split_images", "BOOL", split_images)
    return writer.message


def cancel_request(model_name: str, model_id: str) -> service_pb2.ModelInferRequest:
    """Write a request to cancel another one."""
    return (
        RequestWriter(model_name, "").texts("operation", b"cancel").texts("target", model_id.encode()).message
    )


def ping_request(model_name: str) -> service_pb2.ModelInferRequest:
    """Write a request that passes through the engine's thread and nothing else."""
    return RequestWriter(model_name, "").texts("operation", b"ping").message


def read_events(
    response: service_pb2.ModelInferResponse, images: Sequence[ImageFile]
) -> Iterator[ModelEvent]:
    """Read the events of a response.

    Raises:
        ServiceError: an event says that there will be no answer; `images` tell which field is meant.

    """
    try:
        index = next(i for i, output in enumerate(response.outputs) if output.name == "events")
        events = json.loads(response.raw_output_contents[index][4:])
    except (StopIteration, IndexError, ValueError) as error:
        raise BackendUnavailable("the model's server sent what is not this model's answer") from error
    for told in events:
        yield _read_event(told, images)


def _name_share(key_id: str) -> str:
    """Name a key as all replicas do, and so that its id stands in nobody's log."""
    return hashlib.blake2b(key_id.encode(), digest_size=8).hexdigest()


def _read_event(told: dict[str, Any], images: Sequence[ImageFile]) -> ModelEvent:
    kind = told.pop("type")
    match kind:
        case "StageEntered":
            return StageEntered(Stage(told["stage"]))
        case "TextDelta":
            return TextDelta(**told)
        case "Finished":
            return _read_finished(told)
        case "Counted":
            return TokenCount(**told)
        case "Alive":
            return None
        case "Cancelled":
            raise RequestCancelled("the request was cancelled")
        case "Failed":
            raise _error(told, images)
        case _:
            raise ValueError(f"the model sent an event of unknown kind {kind!r}")


def _read_finished(told: dict[str, Any]) -> BackendFinished:
    finish_reason, seconds = FinishReason(told.pop("finish_reason")), told.pop("seconds")
    return BackendFinished(
        finish_reason, Usage(**told), seconds.get("preprocess", 0.0), seconds.get("vision", 0.0), seconds
    )


def _error(told: dict[str, Any], images: Sequence[ImageFile]) -> ServiceError:
    """Name an image by the caller's field where the model named it by its place.

    A model that is full, or whose engine was lost before, took nothing of the request: who was accepted here
    is sent again.
    """
    field, message = told["field"], told["message"]
    if told.get("was_lost_before"):  # a model of the version before does not say it
        return BackendUnavailable.unsent(message)
    if told["reason"] == QueueFull.reason:
        return BackendUnavailable.unsent(f"the model's server is full: {message}")
    for index, image in enumerate(images):
        if field == f"images[{index}]":
            field, message = image.field, message.replace(field, image.field)
    facts = {name: told[name] for name in ("bound", "value") if told.get(name)}
    return error_for(told["reason"], message, field, facts)

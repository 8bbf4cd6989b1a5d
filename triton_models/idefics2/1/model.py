"""Triton's side of the engine: tensors in, events out, and nothing left open.

`execute` only enqueues. The engine's own process steps; senders send. Every request that `execute`
was given is in `_streams` until its last event is to be sent; who takes it out sends FINAL.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from idefics2_engine import logs
from idefics2_engine.bounds import check_sampling
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine_process import EngineProcess
from idefics2_engine.errors import EngineError, InvalidRequest
from idefics2_engine.names import about, find_share, make_name
from idefics2_engine.outbox import Outbox, join_text
from idefics2_engine.requests import Event, Failed, Request, SamplingParams, TextDelta, is_last
from triton_metrics import TritonMetrics

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SECONDS_BETWEEN_CANCEL_CHECKS = 1.0  # a check is a round trip to the server, as dear as a send

logger = logging.getLogger(__name__)


@dataclass
class Stream:
    """The way back to one caller."""

    public_id: str
    sender: Any
    checked_at: float = field(default_factory=time.monotonic)
    is_broken: bool = False  # a piece was not sent: what comes after it must not look like the whole


class TritonPythonModel:
    """One instance: one engine on one device."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint; Triton calls the model ready when this returns."""
        logs.configure()
        self._config = _read_config(args)
        self._streams: dict[str, Stream] = {}
        self._lock = threading.Lock()
        self._outbox = Outbox(self._send, max_messages_per_second=self._config.message_rate)
        self._metrics = TritonMetrics(args["model_instance_name"])
        self._engine = EngineProcess(self._config, self._outbox.put, self._metrics.show)

    def execute(self, requests: list[Any]) -> None:
        """Take requests; each is answered later, by itself, whatever becomes of the others."""
        for request in requests:
            stream_id = make_name(request.request_id(), request.parameters())
            with self._lock:
                self._streams[stream_id] = Stream(request.request_id(), request.get_response_sender())
            try:
                self._begin(stream_id, request)
            except EngineError as error:
                self._outbox.put(stream_id, Failed.of(error))
            except Exception:
                logger.exception("could not read a request", extra=about(stream_id))
                failed = Failed("REQUEST_MALFORMED", "the tensors of the request cannot be read")
                self._outbox.put(stream_id, failed)

    def finalize(self) -> None:
        """Answer everything that is open, then let go of the engine."""
        self._engine.close()
        self._outbox.close()
        self._metrics.close()

    def _begin(self, stream_id: str, request: Any) -> None:  # Triton is untyped
        tensors = _Tensors(request)
        operation = tensors.text("operation", "generate")
        if operation == "generate":
            self._engine.submit(self._read_request(stream_id, find_share(request.parameters()), tensors))
        elif operation == "cancel":
            self._cancel(tensors.text("target", ""))
            self._engine.ping(stream_id)
        elif operation == "ping":
            self._engine.ping(stream_id)
        elif operation == "count":
            sizes = [(w, h) for w, h in np.reshape(tensors.values("image_size"), (-1, 2)).tolist()]
            prompt, split = tensors.text("prompt", ""), tensors.value("split_images", None)
            self._engine.count(stream_id, prompt, sizes, split_images=split)
        else:
            message = f"operation must be generate, cancel, count or ping, not {operation!r}"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "operation")

    def _read_request(self, stream_id: str, share: str, tensors: _Tensors) -> Request:
        default, most_tokens = SamplingParams(), self._config.max_new_tokens
        sampling = SamplingParams(
            max_new_tokens=tensors.value("max_new_tokens", min(default.max_new_tokens, most_tokens)),
            min_new_tokens=tensors.value("min_new_tokens", default.min_new_tokens),
            repetition_penalty=tensors.value("repetition_penalty", default.repetition_penalty),
            temperature=tensors.value("temperature", default.temperature),
            top_p=tensors.value("top_p", default.top_p),
            top_k=tensors.value("top_k", default.top_k),
            seed=tensors.value("seed", uuid.uuid4().int >> 64),
            stop=tuple(text.decode() for text in tensors.values("stop")),
        )
        check_sampling(sampling, most_tokens)
        return Request(
            request_id=stream_id,
            prompt=tensors.text("prompt", ""),
            images=tuple(tensors.values("image")),
            sampling=sampling,
            split_images=tensors.value("split_images", None),
            share=share,
        )

    def _cancel(self, public_id: str) -> None:
        if not public_id:  # it would mean everybody who gave no id
            message = "target must be the id of the request to cancel, not empty"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "target")
        with self._lock:
            targets = [key for key, stream in self._streams.items() if stream.public_id == public_id]
        for stream_id in targets:
            self._engine.cancel(stream_id)

    def _send(self, stream_id: str, events: list[Event]) -> None:
        """Send events as one response; the last one closes the stream even if sending fails."""
        done = is_last(events[-1])
        with self._lock:
            stream = self._streams.pop(stream_id) if done else self._streams[stream_id]
        if stream.is_broken:
            if not done:
                return
            events = [Failed("BACKEND_UNAVAILABLE", "a piece of the answer could not be sent")]
        try:
            stream.sender.send(_response(events, done=done), flags=FINAL if done else 0)
        except Exception:
            stream.is_broken = True
            if done:  # without FINAL its caller would wait for ever
                stream.sender.send(flags=FINAL)
            self._engine.cancel(stream_id)
            raise
        if not done and time.monotonic() - stream.checked_at > SECONDS_BETWEEN_CANCEL_CHECKS:
            stream.checked_at = time.monotonic()
            if stream.sender.is_cancelled():
                self._engine.cancel(stream_id)


class _Tensors:
    """The inputs of one request; those that it does not have are None."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def values(self, name: str) -> list[Any]:
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        if tensor is None:
            return []
        array = tensor.as_numpy()
        if (size := array.shape[0]) != 1:
            message = f"{name} must have a batch dimension of 1, not of {size}: send one request each"
            raise InvalidRequest("REQUEST_MALFORMED", message, name)
        return list(array.reshape(-1).tolist())

    def value(self, name: str, default: Any) -> Any:
        values = self.values(name)
        return values[0] if values else default

    def text(self, name: str, default: str) -> str:
        value = self.value(name, default.encode())
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest("TEXT_NOT_UNICODE", f"{name} is not valid UTF-8", name) from error


def _response(events: list[Event], *, done: bool) -> Any:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    told = json.dumps([{"type": type(event).__name__, **asdict(event)} for event in join_text(events)])
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("text", np.array([[text.encode()]], dtype=np.object_)),
            pb_utils.Tensor("events", np.array([[told.encode()]], dtype=np.object_)),
            pb_utils.Tensor("done", np.array([[done]], dtype=np.bool_)),
        ]
    )


def _read_config(args: dict[str, str]) -> EngineConfig:
    parameters = {
        key: value["string_value"]
        for key, value in json.loads(args["model_config"]).get("parameters", {}).items()
    }
    config = EngineConfig.read(parameters, os.environ, Path(args["model_repository"]))
    has_gpu = args["model_instance_kind"] == "GPU"
    return config.assign(f"cuda:{args['model_instance_device_id']}") if has_gpu else config

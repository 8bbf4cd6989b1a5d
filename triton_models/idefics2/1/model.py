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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils
from idefics2_engine import logs
from idefics2_engine.bounds import check_sampling
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine_process import EngineProcess
from idefics2_engine.errors import EngineError, InvalidRequest
from idefics2_engine.names import about, make_name
from idefics2_engine.outbox import Outbox
from idefics2_engine.requests import Event, Failed, Request, SamplingParams, is_last
from triton_metrics import TritonMetrics
from triton_tensors import Tensors, make_response

if TYPE_CHECKING:
    from collections.abc import Callable

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SECONDS_BETWEEN_CANCEL_CHECKS = 1.0  # a check is a round trip to the server, as dear as a send
SECONDS_BETWEEN_CLOSES = (0.1, 0.4, 1.6)  # shared memory that is full has room again

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
            stream_id = self._open(request)
            try:
                self._take(stream_id, Tensors(request))
            except EngineError as error:
                self._outbox.put(stream_id, Failed.of(error))
            except Exception as error:
                logger.exception("could not take a request", extra=about(stream_id))
                self._outbox.put(stream_id, _explain(error))

    def finalize(self) -> None:
        """Answer everything that is open, then let go of the engine."""
        self._engine.close()
        self._outbox.close()
        self._metrics.close()

    def _open(self, request: Any) -> str:
        """Keep the way back to a request's caller; return what the request is called inside."""
        sender = request.get_response_sender()
        try:
            public_id, parameters = request.request_id(), request.parameters()
        except UnicodeDecodeError:  # over HTTP, Triton takes any bytes; what is no text names nobody
            public_id = parameters = ""
        stream_id = make_name(public_id, parameters)
        with self._lock:
            self._streams[stream_id] = Stream(public_id, sender)
        return stream_id

    def _take(self, stream_id: str, tensors: Tensors) -> None:
        """Have the engine do what is asked for; only what cannot be read is the caller's fault."""
        try:
            ask = self._read(stream_id, tensors)
        except ValueError as error:
            logger.exception("could not read a request", extra=about(stream_id))
            raise InvalidRequest("REQUEST_MALFORMED", "the tensors of the request cannot be read") from error
        ask()

    def _read(self, stream_id: str, tensors: Tensors) -> Callable[[], None]:
        """Return what the engine is to be asked for."""
        operation = tensors.text("operation", "generate")
        if operation == "generate":
            return partial(self._engine.submit, self._read_request(stream_id, tensors))
        if operation == "cancel":
            return partial(self._cancel, stream_id, tensors.text("target", ""))
        if operation == "ping":
            return partial(self._engine.ping, stream_id)
        if operation == "count":
            prompt, split = tensors.text("prompt", ""), tensors.value("split_images", None)
            sizes = tensors.pairs("image_size")
            return partial(self._engine.count, stream_id, prompt, sizes, split_images=split)
        message = f"operation must be generate, cancel, count or ping, not {operation!r}"
        raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "operation")

    def _read_request(self, stream_id: str, tensors: Tensors) -> Request:
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
            share=tensors.share,
        )

    def _cancel(self, stream_id: str, public_id: str) -> None:
        if not public_id:  # it would mean everybody who gave no id
            message = "target must be the id of the request to cancel, not empty"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "target")
        with self._lock:
            targets = [key for key, stream in self._streams.items() if stream.public_id == public_id]
        for target in targets:
            self._engine.cancel(target)
        self._engine.ping(stream_id)

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
            stream.sender.send(make_response(events, done=done), flags=FINAL if done else 0)
        except Exception:
            stream.is_broken = True
            if done:  # without FINAL its caller would wait for ever
                _close(stream.sender)
            self._engine.cancel(stream_id)
            raise
        if not done and time.monotonic() - stream.checked_at > SECONDS_BETWEEN_CANCEL_CHECKS:
            stream.checked_at = time.monotonic()
            if stream.sender.is_cancelled():
                self._engine.cancel(stream_id)


def _close(sender: Any) -> None:
    """Send FINAL by itself, again where it fails; the last failure is raised."""
    for pause in SECONDS_BETWEEN_CLOSES:
        with suppress(Exception):
            sender.send(flags=FINAL)
            return
        time.sleep(pause)
    sender.send(flags=FINAL)


def _explain(error: Exception) -> Failed:
    """Tell of what kept a request from the engine, by no fault of the request's."""
    if isinstance(error, MemoryError):
        return Failed("BACKEND_UNAVAILABLE", "the model's server has no memory left to take the request")
    return Failed("INTERNAL_ERROR", "the model's server failed to take the request")


def _read_config(args: dict[str, str]) -> EngineConfig:
    parameters = {
        key: value["string_value"]
        for key, value in json.loads(args["model_config"]).get("parameters", {}).items()
    }
    config = EngineConfig.read(parameters, os.environ, Path(args["model_repository"]))
    has_gpu = args["model_instance_kind"] == "GPU"
    return config.assign(f"cuda:{args['model_instance_device_id']}") if has_gpu else config

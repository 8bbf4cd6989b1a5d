"""Makes the calls of contract vectors with the blocking client: a line of JSON in, one out."""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from google.protobuf import json_format
from idefics2.v1.generation_pb2 import GenerateRequest
from idefics2.v1.requests_pb2 import Priority, State, SubmitRequest
from idefics2_client import Client, Idefics2Error
from idefics2_client.names import write_name

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message
    from idefics2.v1.generation_pb2 import Image

_Outcome = dict[str, Any]


class Performance:
    """One call."""

    def __init__(self, call: dict[str, Any]) -> None:
        """Make ready to call."""
        self._call = call
        self._request: dict[str, Any] = call.get("request", {})
        deadline = call.get("deadline_ms")
        self._terms: dict[str, Any] = {"timeout_seconds": deadline / 1000 if deadline else None}

    def perform(self) -> _Outcome:
        """Make the call; return what came of it."""
        outcome: _Outcome = {}
        try:
            with Client(self._call["target"], self._call["api_key"]) as client:
                getattr(self, f"_{self._call['call']}")(client, outcome)
        except Idefics2Error as error:
            outcome["error"] = write_error(error)
        return outcome

    def _generate(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.generate(*self._read_input(), **self._terms))

    def _count_tokens(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.count_tokens(*self._read_input(), **self._terms))

    def _stream(self, client: Client, outcome: _Outcome) -> None:
        self._collect(client.stream(*self._read_input(), **self._terms), outcome, "events")

    def _submit(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.submit(*self._read_submission(), **self._terms))

    def _submit_and_watch(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.subscribe(*self._read_submission(), **self._terms))

    def _get_request(self, client: Client, outcome: _Outcome) -> None:
        request = client.get_request(
            self._request["request_id"], logs=self._request.get("include_logs", False), **self._terms
        )
        outcome["response"] = write(request)

    def _watch(self, client: Client, outcome: _Outcome) -> None:
        events = client.watch(self._request["request_id"], int(self._request.get("after", 0)), **self._terms)
        self._collect(events, outcome, "events")

    def _result(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.result(self._request["request_id"], **self._terms))

    def _cancel(self, client: Client, outcome: _Outcome) -> None:
        outcome["response"] = write(client.cancel(self._request["request_id"], **self._terms))

    def _list_requests(self, client: Client, outcome: _Outcome) -> None:
        state = State.Value(self._request["state"]) if "state" in self._request else None
        name = cast("Any", write_name(State.DESCRIPTOR, state) if state else None)
        requests = client.list_requests(name, page_size=self._request.get("page_size"), **self._terms)
        self._collect(requests, outcome, "requests")

    def _upload(self, client: Client, outcome: _Outcome) -> None:
        file = client.upload(Path(self._call["path"]), name=self._request.get("name"), **self._terms)
        outcome["response"] = write(file)

    def _download(self, client: Client, outcome: _Outcome) -> None:
        file = self._request.get("id") or f"sha256:{self._request['sha256']}"
        outcome["response"] = write(client.download(file, self._call["path"], **self._terms))

    def _collect(self, items: Generator[Any, None, None], outcome: _Outcome, name: str) -> None:
        """Keep what comes, as far as the vector wants it."""
        outcome[name] = []
        with closing(items):
            for item in itertools.islice(items, self._call.get("cancel_after_events")):
                outcome[name].append(write(item))

    def _read_input(self) -> tuple[Any, str]:
        request = json_format.ParseDict(self._request, GenerateRequest())
        image, prompt, options = read_question(request)
        self._terms |= options
        return image, prompt

    def _read_submission(self) -> tuple[Any, str]:
        submission = json_format.ParseDict(self._request, SubmitRequest())
        image, prompt, options = read_question(submission.input)
        self._terms |= options
        for field, value in submission.ListFields():
            if field.name == "priority":
                self._terms[field.name] = write_name(Priority.DESCRIPTOR, value)
            elif field.name in {"start_timeout", "time_budget", "keep"}:
                self._terms[f"{field.name}_seconds"] = value.ToTimedelta().total_seconds()
            elif field.name != "input":
                self._terms[field.name] = value
        return image, prompt


def read_question(request: GenerateRequest) -> tuple[Any, str, dict[str, Any]]:
    """Return image, prompt and options as the client takes them."""
    names = ("image_url", "prompt", "images")
    options = {field.name: value for field, value in request.ListFields() if field.name not in names}
    images = [*([request.image_url] if request.image_url else []), *map(read_image, request.images)]
    return images[0], request.prompt, {**options, "images": images[1:]}


def read_image(image: Image) -> str | bytes:
    """Return an image as the client takes it."""
    return f"sha256:{image.sha256}" if image.HasField("sha256") else image.url or image.data


def write(message: Message) -> dict[str, Any]:
    """Write a message for the line."""
    return json_format.MessageToDict(message)


def write_error(error: Idefics2Error) -> dict[str, Any]:
    """Write an error for the line; what the client does not tell is not there."""
    names = ("code", "reason", "field", "message", "request_id", "retry_after_seconds", "metadata")
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def main() -> None:
    """Answer line by line."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(Performance(json.loads(line)).perform()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

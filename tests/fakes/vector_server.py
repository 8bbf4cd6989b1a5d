"""The service as a contract vector describes it: what it must be asked, and what it answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import grpc
from fakes.file_server import FileServer
from fakes.scripted_server import Break, Hang, Take, make_status
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from idefics2.v1 import files_pb2, generation_pb2, requests_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fakes.scripted_server import Step
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

REQUEST_ID = "r-1"
_ANY = "$any"
_EVER = 10 * 365 * 86_400.0  # grpc says None or hundreds of years of a call without deadline
_WORDS: dict[str, Step] = {"hang": Hang(), "break": Break(), "take_all": Take()}
_SAME = re.compile(r"\$same:(\w+)")
METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (generation_pb2, requests_pb2, files_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class VectorServer(FileServer):
    """Answers calls by the scripts of one vector, and fails where it was asked anything else."""

    def __init__(self, scripts: Sequence[dict[str, Any]]) -> None:
        """Be ready for these calls, in this order; see clients/vectors/README.md."""
        super().__init__(request_id=REQUEST_ID)
        self._expected = scripts
        for script in scripts:
            self.expect(*(read_step(script["method"], reply) for reply in script["replies"]))

    def check(self, content: bytes | None) -> None:
        """Fail if other calls came than the scripts say, or uploads brought other bytes than `content`."""
        assert self.methods == [script["method"] for script in self._expected]
        assert not self._scripts
        seen: dict[str, object] = {}
        for request, script in zip(self.requests, self._expected, strict=True):
            asked = json_format.MessageToDict(request, preserving_proto_field_name=True)
            check_equal(asked, script.get("receives", {}), seen, script["method"])
        self._check_uploads(content)

    def check_terms(self, api_key: str, *, has_deadline: bool) -> None:
        """Fail if a call had another key than this one, or a deadline where it must have none."""
        expected = f"Key {api_key}" if api_key else None
        assert {call.get("authorization") for call in self.metadata} <= {expected}
        assert {(seconds or _EVER) < _EVER for seconds in self.seconds_left} <= {has_deadline}

    def _check_uploads(self, content: bytes | None) -> None:
        starts = [request for request in self.requests if isinstance(request, files_pb2.UploadStart)]
        for start, received in zip(starts, self.received, strict=True):
            assert content is not None
            announced = content[start.offset : start.offset + len(received)]
            assert announced == received, "an upload brought other bytes"

    def _play(self, request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
        has_headers = self._expected[len(self.requests)].get("headers", True)
        self._request_id = REQUEST_ID if has_headers else ""
        return super()._play(request, context)


def read_step(method: str, reply: Any) -> Step:
    """Read one reply of a script."""
    match reply:
        case str():
            return _WORDS[reply]
        case {"take_bytes": num_bytes}:
            return Take(num_bytes)
        case {"status": {"reason": _} as status}:
            return make_status(**status)
        case {"status": {"code": code}}:
            return grpc.StatusCode[code]
        case {"send": message}:
            kind = GetMessageClass(METHODS[method].output_type)
            return json_format.ParseDict(message, kind())
    raise ValueError(f"no such reply: {reply}")


def check_equal(actual: Any, expected: Any, seen: dict[str, object], where: str) -> None:
    """Compare what a server received; `seen` holds what `$same` stands for."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        assert actual.keys() == expected.keys(), f"{where}: {actual} is not {expected}"
        for name, value in expected.items():
            check_equal(actual[name], value, seen, f"{where}.{name}")
    elif isinstance(expected, str) and (named := _SAME.fullmatch(expected)):
        assert actual
        assert seen.setdefault(named[1], actual) == actual, where
    else:
        assert (actual and expected == _ANY) or actual == expected, f"{where}: {actual!r} is not {expected!r}"

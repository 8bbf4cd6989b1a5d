"""google.longrunning.Operations over the same requests: `operations/<request_id>`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from idefics2_service.errors import MethodUnknown, RequestIdInvalid, ValueOutOfRange
from idefics2_service.events import Failed, Finished
from idefics2_service.rpc.convert import write_generate_response
from idefics2_service.rpc.interceptor import current_caller
from idefics2_service.rpc.pages import read_page_size, read_page_token, write_page_token
from idefics2_service.rpc.records import read_seconds, write_request
from idefics2_service.rpc.status import make_status
from idefics2_service.submissions import name_request

if TYPE_CHECKING:
    from idefics2_service.requests import RequestName
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.store.records import Record
    from idefics2_service.submissions import Submissions

SERVICE_NAME = operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name
_PREFIX = "operations/"


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """The same requests, for clients that know operations only."""

    def __init__(self, submissions: Submissions) -> None:
        """Serve `submissions`."""
        self._submissions = submissions

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: ServicerContext
    ) -> operations_pb2.Operation:
        """Tell where a request stands."""
        return write_operation(await self._submissions.get(_name(request.name)))

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: ServicerContext
    ) -> operations_pb2.Operation:
        """Answer at the request's end, or where it stands after `timeout`."""
        name = _name(request.name)
        seconds = read_seconds(request, "timeout")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self._submissions.watch(name)) as events:
                async for _ in events:
                    pass
        return write_operation(await self._submissions.get(name))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: ServicerContext
    ) -> operations_pb2.ListOperationsResponse:
        """List requests."""
        if request.filter:
            raise ValueOutOfRange.of("filter", "empty", request.filter[:100])
        key_id = current_caller.get().key_id
        before = read_page_token(request.page_token, key_id, None, int)
        limit = read_page_size(request.page_size)
        page = await self._submissions.list_page(key_id, None, limit, before)
        return operations_pb2.ListOperationsResponse(
            operations=[write_operation(record) for record in page.records],
            next_page_token=write_page_token(key_id, None, page.next_before),
        )

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: ServicerContext
    ) -> Empty:
        """Cancel a request."""
        await self._submissions.cancel(_name(request.name))
        return Empty()

    async def DeleteOperation(
        self, request: operations_pb2.DeleteOperationRequest, context: ServicerContext
    ) -> Empty:
        """Refuse: requests are forgotten by time."""
        raise MethodUnknown("operations are forgotten a set time after their end; none is deleted before")


def write_operation(record: Record) -> operations_pb2.Operation:
    """Write a request as an operation: `metadata` is the Request, `response` the GenerateResponse."""
    operation = operations_pb2.Operation(
        name=f"{_PREFIX}{record.name.request_id}", done=record.state.is_final
    )
    operation.metadata.Pack(write_request(record))
    match record.end:
        case Finished(output):
            operation.response.Pack(write_generate_response(output))
        case Failed(error):
            operation.error.CopyFrom(make_status(error))
    return operation


def _name(name: str) -> RequestName:
    if not name.startswith(_PREFIX):
        raise RequestIdInvalid(f"name must be operations/<request_id>, not {name[:140]!r}", field="name")
    return name_request(current_caller.get().key_id, name.removeprefix(_PREFIX))

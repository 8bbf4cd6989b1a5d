"""A service of an earlier release, which answers by script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from clients.contracts import write
from fakes.scripted_server import ScriptedServer
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clients.contracts import Contract
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message


class ContractServer(ScriptedServer):
    """Has the methods and messages of a contract, and tells the request's id first, as was once done."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._first_id = "r-1"
        super().__init__(request_id="")

    def _add_services(self, server: grpc.Server) -> None:
        for service in self._contract.services:
            methods = [method for method in service.methods if not method.client_streaming]
            handlers = {method.name: self._make_handler(method) for method in methods}
            handler = grpc.method_handlers_generic_handler(service.full_name, handlers)
            server.add_generic_rpc_handlers((handler,))

    def _make_handler(self, method: MethodDescriptor) -> Any:
        make, play = grpc.unary_unary_rpc_method_handler, self._reply
        if method.server_streaming:
            make, play = grpc.unary_stream_rpc_method_handler, self._play
        return make(play, GetMessageClass(method.input_type).FromString, write)

    def _reply(self, request: Message, context: grpc.ServicerContext) -> Any:
        return next(self._play(request, context))

    def _play(self, request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
        context.send_initial_metadata((("x-request-id", self._first_id),))
        return super()._play(request, context)

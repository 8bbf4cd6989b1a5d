"""A client of several replicas that asks for their health calls none that drains, or has only begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes.generation_server import GenerationServer, make_response
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from idefics2_client import Client, Retry, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from idefics2.v1 import generation_pb2

_SERVICE = "idefics2.v1.GenerationService"
_ASKING = Retry(asks_health=True)


class Replica(GenerationServer):
    """Answers by its name, and tells of its health."""

    def __init__(self, name: str, *, serving: bool) -> None:
        """Say at first whether it serves."""
        self.health = health.HealthServicer()
        self.set(serving=serving)
        super().__init__()
        self.name = name

    def set(self, *, serving: bool) -> None:
        """Tell all who watch."""
        status = health_pb2.HealthCheckResponse
        self.health.set(_SERVICE, status.SERVING if serving else status.NOT_SERVING)

    def Generate(  # noqa: N802  # the proto's name
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.GenerateResponse:
        """Answer always."""
        return make_response(self.name)

    def _add_services(self, server: grpc.Server) -> None:
        super()._add_services(server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)


@pytest.fixture
def going() -> Iterator[Replica]:
    """A replica that does not serve, though it would still answer."""
    with Replica("going", serving=False) as replica:
        yield replica


@pytest.fixture
def staying() -> Iterator[Replica]:
    """A replica that serves."""
    with Replica("staying", serving=True) as replica:
        yield replica


def connect(*replicas: Replica, retry: Retry) -> Client:
    """Make a client of all of them, as of one name with several addresses."""
    return Client(f"ipv4:{','.join(replica.target for replica in replicas)}", "local.key", retry=retry)


def ask(client: Client) -> str:
    """Tell who answers."""
    return client.generate(b"a picture", "What?").output


def test_who_does_not_serve_is_not_called(going: Replica, staying: Replica) -> None:
    with connect(going, staying, retry=_ASKING) as client:
        assert {ask(client) for _ in range(8)} == {"staying"}


def test_a_client_that_does_not_ask_calls_it(going: Replica, staying: Replica) -> None:
    with connect(going, staying, retry=Retry()) as client:
        names: set[str] = set()
        while names != {"going", "staying"}:
            names.add(ask(client))


def test_a_replica_that_drains_is_left_before_its_port_closes(going: Replica, staying: Replica) -> None:
    going.set(serving=True)
    with connect(going, staying, retry=_ASKING) as client:
        while ask(client) != "going":
            pass
        going.set(serving=False)
        num_alone = 0
        while num_alone < 4:  # of two in turns, one alone answers
            num_alone = num_alone + 1 if ask(client) == "staying" else 0
        going.go_away()
        assert {ask(client) for _ in range(8)} == {"staying"}


def test_where_nobody_serves_that_is_said(going: Replica) -> None:
    with connect(going, retry=_ASKING) as client, pytest.raises(ServiceUnavailable) as caught:
        ask(client)
    assert "says that it serves" in str(caught.value)

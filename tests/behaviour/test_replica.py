"""What callers are promised where the store has a replica, while the store itself is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faces.face import ask, read, refusal_of, text_of
from grpc import StatusCode
from harness import MakeSettings, red_circle_answer, run_harness
from idefics2_service.app import App
from store.servers import Server, catch_up, make_replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from faces.face import Face
    from fakes.backend import FakeBackend
    from fakes.script import Script


async def test_what_was_submitted_can_be_read_and_nothing_is_taken_until_the_store_is_back(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, make_face: Callable[..., Face]
) -> None:
    with Server("redis") as server, make_replica(server) as replica:
        await catch_up(server)
        settings = make_settings(store__url=server.url, store__replica_url=replica.url)
        async with run_harness(App(settings, backend), script, is_real=False) as service:
            face = make_face(service)
            service.expect(red_circle_answer(), red_circle_answer())
            request_id = await face.submit(ask())
            events, answer = await read(face, request_id), await face.result(request_id)
            standing = await face.get(request_id, has_logs=True)
            await catch_up(server)
            server.kill()
            assert await face.get(request_id, has_logs=True) == standing
            assert await face.result(request_id) == answer
            assert await read(face, request_id) == events
            for call in (face.submit(ask()), face.get("never"), face.cancel(request_id)):
                refusal = await refusal_of(call)
                assert (refusal.code, refusal.reason) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
                assert refusal.retry_seconds
            assert (await service.http.get("/healthz/ready")).is_success
            metrics = (await service.http.get("/metrics")).text
            assert 'idefics2_store_replica_reads_total{operation="events"}' in metrics
            assert "idefics2_store_replica_behind 0.0" in metrics
            server.start()
            assert text_of(await read(face, await face.submit(ask()))) == text_of(events)

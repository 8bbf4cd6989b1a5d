"""Which servers are trusted with requests."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from idefics2_service.errors import SettingInvalid, StartFailed, StoreUnavailable
from idefics2_service.events import Finished, LogLine
from idefics2_service.store.interface import WORK
from idefics2_service.store.records import Lease
from ports import HOST, free_port
from processes import PATIENCE_SECONDS
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from store.servers import BINARIES, Server
from store.submissions import KEY, claim, make_output, submit

if TYPE_CHECKING:
    from store.conftest import StartServer, StartStore

README = Path(__file__).parents[2] / "README.md"


async def allow(client: Redis, user: str, *rules: str) -> None:
    """Make a user of the password "secret" who may do some things with all keys and channels."""
    await client.acl_setuser(
        user, enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], categories=[], commands=rules
    )


@pytest.mark.parametrize("name", list(BINARIES))
@pytest.mark.parametrize(
    ("option", "unsafe", "safe"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_a_server_that_may_lose_what_it_acknowledged_is_taken_only_where_that_is_accepted(
    start_store: StartStore, start_server: StartServer, name: str, option: str, unsafe: str, safe: str
) -> None:
    url = start_server(name).url
    async with Redis.from_url(url) as client:
        await client.config_set(option, unsafe)
        try:
            with pytest.raises(StartFailed) as caught:
                await start_store(url=url)
            await start_store(url=url, allow_data_loss=True)
        finally:
            await client.config_set(option, safe)
    assert f"set {option} to {safe}, not {unsafe}, or accept" in str(caught.value)
    assert "IDEFICS2_STORE_ALLOW_DATA_LOSS=true" in str(caught.value)


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_server_that_comes_back_unfit_is_given_nothing_new_and_what_runs_goes_on(
    start_store: StartStore, name: str
) -> None:
    with Server(name) as server:
        store, lax = [
            await start_store(url=server.url, allow_data_loss=accepts_losses)
            for accepts_losses in (False, True)
        ]
        await submit(store, "one", "two")
        one, two = await claim(store), await claim(store)
        assert not store.is_unfit
        server.kill()
        server.options = ("--appendonly", "yes", "--appendfsync", "everysec")
        with store.listen(WORK) as told:
            server.start()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await told.wait()  # at the latest now it answers
        with pytest.raises(StoreUnavailable, match="may lose what it acknowledges"):
            await submit(store, "three")
        assert (store.is_unfit, lax.is_unfit) == (True, False)
        assert await store.renew(one) is Lease.HELD
        assert await store.finish(one, 1, [LogLine("x")], Finished(make_output())) is Lease.HELD
        assert await store.release(two, "tired", is_lost=False) is Lease.HELD
        await submit(lax, "four")
        async with Redis.from_url(server.url) as client:
            await client.config_set("appendfsync", "always")
        await store._servers._look()
        assert not store.is_unfit
        await submit(store, "three")
        await asyncio.gather(store.stop(), lax.stop())


async def test_a_server_that_is_made_unfit_while_it_runs_is_seen_within_some_seconds(
    start_store: StartStore, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.servers.LOOK_SECONDS", 0.01)
    url = start_server("valkey").url
    store = await start_store(url=url)
    async with Redis.from_url(url) as client, asyncio.timeout(PATIENCE_SECONDS):
        for policy in ("allkeys-lru", "noeviction"):
            await client.config_set("maxmemory-policy", policy)
            while store.is_unfit is (policy == "noeviction"):
                await store.statistics()
    await submit(store, "one")


async def test_a_server_that_does_not_show_its_settings_is_not_trusted(
    start_store: StartStore, start_server: StartServer
) -> None:
    url = start_server("valkey").url
    async with Redis.from_url(url) as client:
        await allow(client, "shy", "+@all", "-config")
    theirs = url.replace("redis://", "redis://shy:secret@")
    with pytest.raises(StartFailed, match=r"allow CONFIG GET .* IDEFICS2_STORE_ALLOW_DATA_LOSS=true"):
        await start_store(url=theirs)
    await start_store(url=theirs, allow_data_loss=True)


@pytest.mark.parametrize("name", list(BINARIES))
async def test_the_user_of_the_readme_may_do_all_that_a_request_needs_and_see_nothing_else(
    start_store: StartStore, start_server: StartServer, name: str
) -> None:
    url, prefix = start_server(name).url, uuid4().hex
    rules = re.findall(r"^ *ACL SETUSER idefics2 (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    (shown,) = (rule.replace("PASSWORD", "secret").replace("{idefics2}", f"{{{prefix}}}") for rule in rules)
    async with Redis.from_url(url) as client:
        await client.execute_command("ACL", "SETUSER", prefix, "reset", *shown.split())  # type: ignore[no-untyped-call]
    theirs = url.replace("redis://", f"redis://{prefix}:secret@")
    store = await start_store(url=theirs, prefix=prefix)
    with store.listen(WORK) as told:
        await submit(store, "one", "two", webhook_url="http://h/")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    one, two = await claim(store), await claim(store)
    await store.append(one, one.last_sequence, [LogLine("begun")])
    assert await store.finish(one, one.last_sequence + 1, [], Finished(make_output())) is Lease.HELD
    assert (await store.renew(two), await store.release(two, "tired", is_lost=False)) == (Lease.HELD,) * 2
    await store.cancel(two.name)
    await store.reap()
    delivery = await store.claim_delivery(9)
    assert delivery is not None
    await store.settle_delivery(delivery, None)
    assert len((await store.list_page(KEY, None, 9, None)).records) == 2
    assert (await store.events(one.name, 0, 9))[-1].happening == (await store.get(one.name)).end
    assert (await store.statistics()).num_queued == 0
    async with Redis.from_url(theirs) as client:
        for command in (("GET", "others"), ("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no")):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("user", "lacks"), [("mute", "-@scripting"), ("deaf", "-subscribe")])
async def test_a_user_who_may_not_do_all_that_is_needed_is_refused_at_the_start(
    start_store: StartStore, start_server: StartServer, user: str, lacks: str
) -> None:
    url = start_server("valkey").url
    async with Redis.from_url(url) as client:
        await allow(client, user, "+@all", lacks)
    with pytest.raises(StartFailed, match="no permission"):
        await start_store(url=url.replace("redis://", f"redis://{user}:secret@"))


async def test_a_wrong_password_is_refused_and_told_to_nobody(start_store: StartStore) -> None:
    with Server("redis", "--requirepass", "right") as server:
        with pytest.raises(StartFailed, match=f"IDEFICS2_STORE_URL: {HOST}:{server.port}") as caught:
            await start_store(url=server.url.replace("redis://", "redis://:hunter2@"))
        assert "hunter2" not in str(caught.value)
        await start_store(url=server.url.replace("redis://", "redis://:right@"))


@pytest.mark.parametrize(
    "url", ["http://h", "redis://:hunter/2@h", "redis://h:hunter2", "redis://u:hunter2@h?timeoutt=1"]
)
async def test_a_url_that_cannot_be_read_is_refused_and_its_password_told_to_nobody(
    start_store: StartStore, url: str
) -> None:
    with pytest.raises(SettingInvalid, match="IDEFICS2_STORE_URL must be") as caught:
        await start_store(url=url)
    assert "hunter" not in str(caught.value)


async def test_a_server_that_is_not_there_is_named(start_store: StartStore) -> None:
    port = free_port()
    with pytest.raises(StartFailed, match=f"IDEFICS2_STORE_URL: {HOST}:{port} cannot be used"):
        await start_store(url=f"redis://{HOST}:{port}")


@pytest.mark.parametrize(
    ("answer", "seconds", "message"),
    [
        (b"$20\r\nredis_version:5.0.14\r\n" + 4 * b"*0\r\n", 2.0, "it is Redis 5.0.14"),
        (b"", 0.1, "Timeout"),
    ],
)
async def test_a_server_that_is_too_old_or_never_answers_is_refused(
    start_store: StartStore,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    seconds: float,
    message: str,
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", seconds)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        with pytest.raises(StartFailed, match=message):
            await start_store(url=f"redis://{HOST}:{port}")

"""Keys that are revoked in the store, over real servers and through the command."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis
from fakes.cable import lay_cable
from idefics2_service.__main__ import EXIT_FAILED, EXIT_USAGE, main
from idefics2_service.errors import ApiKeyRevoked, SettingInvalid, StoreUnavailable
from idefics2_service.keys.changes import create
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.ring import KeyRing
from idefics2_service.settings import StoreSettings
from idefics2_service.store.redis.connection import connect
from idefics2_service.store.redis.revocations import RedisRevocations
from idefics2_service.store.revocations import find_revocations
from ports import HOST, free_port
from redis.asyncio import Redis
from store.servers import BINARIES, Server

if TYPE_CHECKING:
    from pathlib import Path

    from store.conftest import StartServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=list(BINARIES))
def settings(request: pytest.FixtureRequest, start_server: StartServer) -> StoreSettings:
    """Where nothing is kept yet, on each kind of server."""
    return StoreSettings(url=start_server(request.param).url, prefix=uuid4().hex)


def test_what_one_revokes_all_read(settings: StoreSettings) -> None:
    here, there = RedisRevocations(settings), RedisRevocations(settings)
    assert there.read() == frozenset()
    here.add("anna")
    here.add("anna")
    here.add("bert")
    assert there.read() == {"anna", "bert"}


def test_a_full_server_still_takes_that_a_key_is_revoked(settings: StoreSettings) -> None:
    revocations = RedisRevocations(settings)
    with redis.Redis.from_url(str(settings.url)) as server:
        server.config_set("maxmemory", 1)
        try:
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                server.set("anything", "")
            revocations.add("anna")
        finally:
            server.config_set("maxmemory", 0)
    assert revocations.read() == {"anna"}


@pytest.mark.parametrize("url", ["redis://store?timeout=5", "redis://store?max_connections=9"])
def test_what_the_url_may_say_for_requests_it_may_say_for_keys(url: str) -> None:
    connect(url)
    RedisRevocations(StoreSettings(url=url))


def test_prefixes_have_nothing_in_common(settings: StoreSettings) -> None:
    RedisRevocations(settings).add("anna")
    others = settings.model_copy(update={"prefix": uuid4().hex})
    assert RedisRevocations(others).read() == frozenset()


@pytest.mark.parametrize("name", list(BINARIES))
def test_a_server_that_was_started_anew_is_asked_over_another_connection(name: str) -> None:
    with Server(name) as server:
        revocations = RedisRevocations(StoreSettings(url=server.url))
        revocations.add("anna")
        server.kill()
        with pytest.raises(StoreUnavailable):
            revocations.read()
        with pytest.raises(StoreUnavailable):
            revocations.add("bert")
        server.start()
        assert revocations.read() == {"anna"}
        server.kill()
        server.start()
        assert revocations.read() == {"anna"}, "it is asked once more, for the connection was closed"


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_server_that_was_demoted_is_not_believed_and_its_name_is_looked_up_again(name: str) -> None:
    with Server(name) as demoted, Server(name) as promoted:
        async with lay_cable(f"{HOST}:{demoted.port}") as (cable, address):
            revocations = RedisRevocations(StoreSettings(url=f"redis://{address}"))
            ring = KeyRing("anna.a-secret-of-hers", revocations=revocations)
            await asyncio.to_thread(ring.refresh_revoked)
            assert ring.is_current
            async with Redis.from_url(demoted.url) as client:
                await client.replicaof(HOST, 1)
            RedisRevocations(StoreSettings(url=promoted.url)).add("anna")
            await asyncio.to_thread(ring.refresh_revoked)
            assert not ring.is_current
            cable.address = f"{HOST}:{promoted.port}"
            await asyncio.to_thread(ring.refresh_revoked)
            assert ring.is_current
            with pytest.raises(ApiKeyRevoked):
                ring.find("anna")


def test_where_requests_are_kept_for_one_replica_its_file_of_keys_is_enough() -> None:
    assert find_revocations(StoreSettings()) is None


@pytest.mark.parametrize("url", ["http://store", "redis://store?colour=red"])
def test_a_bad_url_is_said_without_its_password(url: str) -> None:
    with pytest.raises(SettingInvalid, match="IDEFICS2_STORE_URL must be redis"):
        RedisRevocations(StoreSettings(url=url.replace("//", "//:swordfish@")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where keys are kept."""
    return tmp_path / "keys.json"


@pytest.fixture
def run(
    settings: StoreSettings, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `keys` with arguments; return exit status, standard output and standard error."""
    monkeypatch.setenv("IDEFICS2_API_KEYS_FILE", str(path))
    monkeypatch.setenv("IDEFICS2_STORE_URL", settings.url)
    monkeypatch.setenv("IDEFICS2_STORE_PREFIX", settings.prefix)

    def run_(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["idefics2-service", "keys", *arguments])
        return main(), *capsys.readouterr()

    return run_


def deny_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file be read only, as a mounted secret is, for root, too."""

    def fail(*_: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(path), "replace", fail)


def test_a_revoked_key_is_refused_wherever_a_replica_has_its_file_from(
    run: Run, settings: StoreSettings, path: Path, tmp_path: Path
) -> None:
    made = json.loads(run("create", "--id", "anna", "--json")[1])["key"]
    copy = tmp_path / "another machine's.json"
    copy.write_bytes(path.read_bytes())
    ring = KeyRing(file=KeyFile(copy), revocations=RedisRevocations(settings))
    assert ring.authenticate(f"Key {made}").id == "anna"
    assert run("revoke", "anna") == (0, "revoked anna\n", "")
    ring.refresh_revoked()
    with pytest.raises(ApiKeyRevoked):
        ring.authenticate(f"Key {made}")
    with pytest.raises(ApiKeyRevoked):
        KeyRing(file=KeyFile(path)).authenticate(f"Key {made}")


def test_a_key_whose_file_cannot_be_changed_here_is_revoked_all_the_same(
    run: Run, settings: StoreSettings, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(KeyFile(path), "anna", datetime.now(UTC))
    deny_changes(path, monkeypatch)
    status, out, err = run("revoke", "anna")
    assert (status, out) == (0, "revoked anna\n")
    assert "do the same to their file of keys" in err
    assert "Read-only file system" in err
    assert RedisRevocations(settings).read() == {"anna"}
    assert [key["state"] for key in json.loads(run("list", "--json")[1])] == ["revoked"]


@pytest.mark.parametrize("command", [("rotate", "anna"), ("create", "--id", "anna")])
def test_a_key_that_is_revoked_in_the_store_alone_is_given_no_secret(
    run: Run, settings: StoreSettings, path: Path, command: tuple[str, ...]
) -> None:
    if command[0] == "rotate":
        create(KeyFile(path), "anna", datetime.now(UTC))
    RedisRevocations(settings).add("anna")
    status, out, err = run(*command)
    assert (status, out) == (EXIT_FAILED, "")
    assert "'anna' is revoked" in err


def test_a_key_that_nobody_has_is_not_revoked(run: Run, settings: StoreSettings) -> None:
    status, out, err = run("revoke", "nobody")
    assert (status, out) == (EXIT_FAILED, "")
    assert "'nobody'" in err
    assert RedisRevocations(settings).read() == frozenset()


@pytest.fixture
def run_without_store(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `keys` where the store does not answer."""
    monkeypatch.setenv("IDEFICS2_STORE_URL", f"redis://{HOST}:{free_port()}")
    return run


def test_a_key_that_cannot_be_revoked_for_all_is_not_said_to_be(run_without_store: Run, path: Path) -> None:
    made = create(KeyFile(path), "anna", datetime.now(UTC))
    status, out, err = run_without_store("revoke", "anna")
    assert (status, out) == (EXIT_FAILED, "")
    assert "the store of requests cannot be used" in err
    assert "only this file says that 'anna' is revoked" in err
    with pytest.raises(ApiKeyRevoked):
        KeyRing(file=KeyFile(path)).authenticate(f"Key {made.text}")


def test_keys_are_listed_and_made_while_the_store_is_away(run_without_store: Run, path: Path) -> None:
    create(KeyFile(path), "anna", datetime.now(UTC))
    for command in (("list",), ("rotate", "anna"), ("create", "--id", "bert")):
        status, out, err = run_without_store(*command)
        assert status == 0
        assert out
        assert "only the file was asked which keys are revoked" in err


def test_a_store_that_cannot_be_named_is_a_mistake(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_STORE_URL", "http://store")
    status, out, err = run("list")
    assert (status, out) == (EXIT_USAGE, "")
    assert "IDEFICS2_STORE_URL must be redis" in err

"""A server whose disk is full takes nothing more, and loses nothing that was acknowledged."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from idefics2_service.errors import StoreUnavailable
from store.servers import BINARIES, Server
from store.submissions import KEY, claim_all, make_submission, submit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idefics2_service.store.interface import RequestStore
    from store.conftest import StartStore

SMALL, LARGE = "4m", "64m"
PROMPT = "x" * 100_000


def mount(place: Path, *options: str) -> bool:
    """Mount a disk, or change one; tell whether that is allowed here."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(place)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a disk of some megabytes."""
    place.mkdir()
    if not mount(place, f"size={SMALL}"):
        pytest.skip("needs the right to mount a disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def submit_until_refused(store: RequestStore) -> list[str]:
    """Submit until the disk is full; return what was acknowledged."""
    acknowledged: list[str] = []
    for number in range(1_000):
        try:
            await submit(store, str(number), prompt=PROMPT)
        except StoreUnavailable:
            return acknowledged
        acknowledged.append(f"{KEY}/{number}")
    raise AssertionError("the disk is not full yet")


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_full_disk_takes_nothing_more_and_loses_nothing(
    start_store: StartStore, tmp_path: Path, name: str
) -> None:
    with small_disk(tmp_path / "disk") as disk, Server(name, "--dir", str(disk)) as server:
        store = await start_store(url=server.url)
        acknowledged = await submit_until_refused(store)
        assert acknowledged
        with pytest.raises(StoreUnavailable):
            await store.submit(make_submission("one more", prompt=PROMPT))
        assert mount(disk, "remount", f"size={LARGE}")
        server.kill()  # most have ended by themselves: they may not answer what they cannot write
        server.start()
        kept = await claim_all(store)
        assert set(acknowledged) <= set(kept)
        await submit(store, "one more", prompt=PROMPT)
        await store.stop()

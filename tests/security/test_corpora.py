"""Files that were made to break decoders: each is decoded or refused by name, and the next as before."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import PIL
import pytest
from bench import results
from bench.results import NO_GOAL, Goal, Row, make_row
from harness import Harness, describe_red_circle, read_refusal
from idefics2.v1 import generation_pb2
from pictures import RED_CIRCLE
from security.corpus import VERSION, find_pictures
from security.decoding import KNOWN, MAX_BYTES, MAX_SECONDS, OVERRUN, Decoder, Outcome, check
from security.mutations import make_pictures, mutate_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMAND = "make test-security"
TITLE = "Crafted files: what the slowest and the largest of them take, in the front and in a worker"
NUM_AT_ONCE = 8
"""Calls of the whole service."""
MEGABYTE = 1_000_000
FILE_REASONS = {
    "FILE_EMPTY",
    "FILE_NOT_AN_IMAGE",
    "FILE_UNDECODABLE",
    "FILE_TOO_MANY_PIXELS",
    "FILE_TOO_LARGE",
}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """The way to the model."""
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """Figures of all corpora, kept where there are some."""
    rows: list[Row] = []
    yield rows
    if rows:
        results.write("security", TITLE, tuple(rows))


async def decode_all(decoder: Decoder, files: Iterable[tuple[str, bytes]]) -> list[Outcome]:
    """Let files go their way; after each, a picture that is known must be decoded as ever."""
    outcomes = []
    for name, data in files:
        outcomes.append(await decoder.decode(name, data))
        check(outcomes[-1])
        decoder.check_known()
    return outcomes


def measure(name: str, outcomes: list[Outcome]) -> list[Row]:
    """Make rows of what a corpus took, those files included that were given up."""
    refused = [outcome for outcome in outcomes if outcome.front or outcome.worker]
    ended = [outcome for outcome in outcomes if outcome.problem.startswith(OVERRUN)]
    figures = [
        ("files", len(outcomes), "files", NO_GOAL),
        ("refused by name", len(refused), "files", NO_GOAL),
        ("given up for their time", len(ended), "files", NO_GOAL),
        ("front, slowest", max(o.front_seconds for o in outcomes), "s", Goal(below=MAX_SECONDS)),
        ("worker, median", statistics.median(o.worker_seconds for o in outcomes), "s", NO_GOAL),
        ("worker, slowest", max(o.worker_seconds for o in outcomes), "s", Goal(below=MAX_SECONDS)),
        ("worker, largest", max(o.worker_bytes for o in outcomes) / MEGABYTE, "MB",
         Goal(below=MAX_BYTES / MEGABYTE)),
    ]  # fmt: skip
    return [
        replace(make_row(f"{name}: {figure}", value, unit, goal=goal), command=COMMAND)
        for figure, value, unit, goal in figures
    ]


@pytest.mark.parametrize("seed", [1])
async def test_a_fuzzer_s_files_are_decoded_or_refused(decoder: Decoder, seed: int) -> None:
    outcomes = await decode_all(decoder, mutate_all(seed))
    assert {"", "FILE_UNDECODABLE"} <= {outcome.worker for outcome in outcomes}


async def test_a_fuzzer_begins_with_pictures_that_are_decoded(decoder: Decoder) -> None:
    outcomes = await decode_all(decoder, make_pictures().items())
    assert {(outcome.front, outcome.worker) for outcome in outcomes} == {("", "")}


def test_a_fuzzer_makes_the_same_files_again() -> None:
    assert list(mutate_all(7)) == list(mutate_all(7))
    assert dict(mutate_all(7)) != dict(mutate_all(8))


@pytest.mark.long
@pytest.mark.timeout(0)  # as long as the seeds take
async def test_many_seeds_of_a_fuzzer_are_decoded_or_refused(
    decoder: Decoder, rows: list[Row], pytestconfig: pytest.Config
) -> None:
    outcomes = []
    for seed in range(pytestconfig.getoption("--seeds")):
        outcomes += await decode_all(decoder, mutate_all(seed))
    rows += measure("fuzzer", outcomes)


@pytest.mark.long
@pytest.mark.timeout(0)  # a download, and a thousand files
async def test_all_of_pillow_s_pictures_are_decoded_or_refused(decoder: Decoder, rows: list[Row]) -> None:
    assert PIL.__version__ == VERSION  # and so these are its pictures
    outcomes = await decode_all(decoder, ((path.name, path.read_bytes()) for path in find_pictures()))
    assert len(outcomes) > 1_000
    assert sum(not outcome.front for outcome in outcomes) > 600
    rows += measure("Pillow's pictures", outcomes)


@pytest.mark.long
@pytest.mark.timeout(0)  # two thousand calls of the model
async def test_the_whole_service_answers_or_refuses_each_of_them(
    real_service: Harness, rows: list[Row]
) -> None:
    files = [path.read_bytes() for path in find_pictures()] + [data for _, data in mutate_all(0)]
    reasons = await ask_all(real_service, files)
    assert set(reasons) <= FILE_REASONS | {""}
    answered, refused = reasons.count(""), len(files) - reasons.count("")
    rows += [
        replace(make_row(f"the whole service: {name}", value, "files"), command=COMMAND)
        for name, value in (("answered", answered), ("refused by name", refused))
    ]


async def ask_all(service: Harness, files: list[bytes]) -> list[str]:
    """Ask about files, some at a time; return the reasons of refusals, and empty ones."""
    at_once = asyncio.Semaphore(NUM_AT_ONCE)

    async def ask_in_turn(number: int, data: bytes) -> str:
        async with at_once:
            reason = await ask(service, data)
            # By other bytes each time, or the engine would know it without decoding it.
            picture = generation_pb2.Image(data=KNOWN + number.to_bytes(4, "big"))
            known = await service.generate(describe_red_circle(images=[picture]))
            assert (number, known.output) == (number, RED_CIRCLE)
            return reason

    return await asyncio.gather(*(ask_in_turn(number, data) for number, data in enumerate(files)))


async def ask(service: Harness, data: bytes) -> str:
    """Return why there is no answer, or nothing."""
    request = describe_red_circle(images=[generation_pb2.Image(data=data)], max_new_tokens=1)
    try:
        await service.generate(request)
    except grpc.aio.AioRpcError as error:
        return read_refusal(error).reason
    return ""

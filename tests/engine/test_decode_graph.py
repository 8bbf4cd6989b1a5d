"""A step of tokens alone, in buffers of fixed sizes, is the step that the runner would do without them."""

from __future__ import annotations

import contextlib
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.answers import make_used_cache, run_tokens
from idefics2_engine.decode_graph import DecodeGraph, DecodeGraphs
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.requests import Failed, Request, SamplingParams
from idefics2_engine.sequence import Sequence
from pictures import draw_red_circle, encode, red_circle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event

CPU = torch.device("cpu")
NUM_SLOTS, MAX_TOKENS = 11, 600
GREEDY = SamplingParams(max_new_tokens=24, repetition_penalty=1.0, temperature=0.0)
TALL = encode(draw_red_circle((60, 180)))


@pytest.fixture
def cache(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> KVCache:
    """A small one in place of the runner's, full of what sequences left."""
    num_layers = len(engine.runner.cache.keys)
    _, num_heads, _, head_dim = engine.runner.cache.keys[0].shape
    made = make_used_cache(KVShape(num_layers, num_heads, head_dim, torch.float32), NUM_SLOTS, MAX_TOKENS)
    monkeypatch.setattr(engine.runner, "cache", made)
    return made


@pytest.fixture
def graphs(engine: Engine, cache: KVCache) -> DecodeGraphs:
    """Nothing is recorded: without a GPU they compute what they would replay."""
    return DecodeGraphs(engine.runner._text, cache)


@pytest.fixture
def template(engine: Engine) -> Sequence:
    """A sequence of which others are made."""
    nobody: Any = None  # no text is made here
    return Sequence(engine.processor.prepare(Request("any", "Hello", (red_circle(),))), 0, nobody)


@pytest.fixture(params=[None, 7, 300])
def _window(engine: Engine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """How far back tokens look."""
    monkeypatch.setattr(engine.runner._text, "sliding_window", request.param)


def make_sequence(template: Sequence, slot: int, token_ids: list[int]) -> Sequence:
    """Make a sequence that is about to read the last of its tokens."""
    made = object.__new__(Sequence)
    made.__dict__.update(template.__dict__, slot=slot, token_ids=token_ids)
    made.num_prompt_tokens = made.num_read_tokens = len(token_ids) - 1
    return made


def read_all(cache: KVCache) -> torch.Tensor:
    """Copy everything: [num_slots, num_layers, 2, heads, max_tokens, head_dim]."""
    return torch.stack([cache.read(slot, 0, MAX_TOKENS) for slot in range(NUM_SLOTS)])


def write_all(cache: KVCache, slots: torch.Tensor) -> None:
    """Put back what `read_all` returned."""
    for slot, tokens in enumerate(slots):
        cache.write(slot, 0, tokens)


@torch.inference_mode()
@pytest.mark.parametrize("longest", [1, 20, 256, 257, MAX_TOKENS])
@pytest.mark.usefixtures("_window")
def test_logits_and_what_is_written_are_those_of_a_step_without_graphs(
    engine: Engine, graphs: DecodeGraphs, cache: KVCache, template: Sequence, longest: int
) -> None:
    draw = random.Random(longest)  # noqa: S311  # not a secret
    before = read_all(cache)
    for number in (1, 2, 3, 5, 8, NUM_SLOTS):
        lengths = [longest, *(draw.randint(1, longest) for _ in range(number - 1))]
        draw.shuffle(lengths)
        sequences = [
            make_sequence(template, slot, draw.choices(range(engine.runner.vocab_size), k=length))
            for slot, length in enumerate(lengths)
        ]
        write_all(cache, before)
        expected = engine.runner.forward(sequences, [])
        expected_cache = read_all(cache)
        write_all(cache, before)
        logits = graphs.replay(sequences)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
        after = read_all(cache)
        torch.testing.assert_close(after[:number], expected_cache[:number], atol=1e-4, rtol=0)
        for slot, length in enumerate(lengths):
            after[slot, :, :, :, length - 1] = before[slot, :, :, :, length - 1]
        after[number:, :, :, :, 0] = before[number:, :, :, :, 0]  # rows that belong to nobody
        assert torch.equal(after, before)


@torch.inference_mode()
@pytest.mark.parametrize("number", [1, 2, 4, 8, NUM_SLOTS])
def test_where_all_rows_belong_to_somebody_no_other_slot_is_touched(
    graphs: DecodeGraphs, cache: KVCache, template: Sequence, number: int
) -> None:
    before = read_all(cache)
    graphs.replay([make_sequence(template, slot, [7] * 5) for slot in range(number)])
    assert torch.equal(read_all(cache)[number:], before[number:])


@torch.inference_mode()
def test_logits_stay_when_the_next_step_is_done(graphs: DecodeGraphs, template: Sequence) -> None:
    logits = graphs.replay([make_sequence(template, 0, [7] * 5)])
    copied = logits.clone()
    graphs.replay([make_sequence(template, 0, [9] * 6)])
    assert torch.equal(logits, copied)


@pytest.mark.parametrize("num_slots", [1, 2, 3, 64, 100, 300])
@pytest.mark.parametrize("max_tokens", [1, 255, 256, 257, 2048, 3000, 8192])
def test_there_is_a_graph_for_every_number_of_sequences_and_every_length(
    engine: Engine, num_slots: int, max_tokens: int
) -> None:
    cache = KVCache(KVShape(1, 1, 1, torch.float32), num_slots, max_tokens, CPU)
    graphs = DecodeGraphs(engine.runner._text, cache)
    sizes = sorted(graphs._graphs)
    batches, lengths = graphs._batches, graphs._lengths
    assert sizes == [(batch, length) for batch in batches for length in lengths]
    assert (batches[0], batches[-1], lengths[-1]) == (1, num_slots, max_tokens)
    assert lengths[0] <= 256
    for steps in (batches, lengths):
        assert steps == sorted(set(steps))
        assert all(2 * small >= large for small, large in itertools.pairwise(steps)), steps
    for (batch, _), graph in graphs._graphs.items():
        assert len(graph.ids) == len(graph.positions) == batch


def test_graphs_are_recorded_on_the_device_that_has_the_cache(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = KVCache(KVShape(1, 1, 1, torch.float32), 2, 300, torch.device("meta"))
    current: list[torch.device | None] = [None]

    @contextlib.contextmanager
    def make_current(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    recorded: list[torch.device | None] = []
    monkeypatch.setattr(torch.cuda, "device", make_current)
    monkeypatch.setattr(DecodeGraph, "record", lambda *_: recorded.append(current[-1]))
    graphs = DecodeGraphs(engine.runner._text, cache)
    graphs.capture()
    assert recorded == [cache.keys[0].device] * len(graphs._graphs)
    assert current == [None]


def test_answers_with_graphs_are_those_without(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [
        Request(f"{number}", "What is this? " * number, (image,), GREEDY)
        for number in range(1, 6)
        for image in (red_circle(), TALL)[: 1 + number % 2]
    ]
    expected = run_tokens(engine, *requests)
    engine.prefixes.clear()
    monkeypatch.setattr(engine.runner, "_graphs", DecodeGraphs(engine.runner._text, engine.runner.cache))
    assert run_tokens(engine, *requests) == expected


def test_rows_that_belong_to_nobody_never_write_into_the_slot_of_who_waits_for_his_prompt(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads fails at his image; the next, whose prompt is known in part, moves down; others decode."""
    caplog.set_level("CRITICAL", "idefics2_engine.engine")
    endless = SamplingParams(max_new_tokens=200, min_new_tokens=200)
    monkeypatch.setattr(engine.runner, "_graphs", DecodeGraphs(engine.runner._text, engine.runner.cache))
    run_tokens(engine, Request("before", "What is this?", (red_circle(),), GREEDY))  # so that it is known
    names = ("0", "1", "2")
    for name in names:
        engine.add(engine.processor.prepare(Request(name, "Hello", (red_circle(),), endless)))
    list(engine.step())
    assert all(sequence.is_decoding for sequence in engine.scheduler.running)

    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 1 + engine.processor._num_latents)
    monkeypatch.setattr(engine.runner, "encode", fail)
    for request in (
        Request("fails", "What is this?", (TALL,), GREEDY),
        Request("waits", "What is this? " * 9, (red_circle(),), GREEDY),
    ):
        engine.add(engine.processor.prepare(request))
    told: list[tuple[str, Event]] = []
    while not any(isinstance(event, Failed) for _, event in told):
        told = list(engine.step())
    waits = engine.scheduler.running[3]
    assert (waits.request_id, waits.slot) == ("waits", 3)
    assert waits.num_read_tokens == waits.num_cached_tokens > 0
    known = engine.prefixes._blocks[waits.prefix_keys[0]]
    assert torch.equal(engine.runner.cache.read(3, 0, known.shape[3]), known)
    for name in (*names, "waits"):
        engine.cancel(name)


def fail(*_: Any) -> None:
    """Break a step."""
    raise RuntimeError("what a kernel might say")

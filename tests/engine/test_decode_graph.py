"""A step of tokens alone, in buffers of fixed sizes, is the step that the runner would do without them."""

from __future__ import annotations

import contextlib
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine import plain_flash
from engine.answers import check_nothing_is_left, make_used_cache, run_tokens
from idefics2_engine.decode_graph import DecodeGraph, DecodeGraphs
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.model import flash
from idefics2_engine.requests import Request, SamplingParams, TextDelta
from idefics2_engine.sequence import Sequence
from pictures import draw_red_circle, encode, red_circle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.engine import Engine

NUM_SLOTS, MAX_TOKENS = 11, 600
GREEDY = SamplingParams(max_new_tokens=24, repetition_penalty=1.0, temperature=0.0)
LONG = SamplingParams(max_new_tokens=24, min_new_tokens=24, repetition_penalty=1.0, temperature=0.0)
TALL = encode(draw_red_circle((60, 180)))


@pytest.fixture(autouse=True)
def _flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, plain steps stand for the flash kernels."""
    monkeypatch.setattr(flash, "attend", plain_flash.attend)


def use_cache(engine: Engine, monkeypatch: pytest.MonkeyPatch, num_slots: int, max_tokens: int) -> KVCache:
    """Give the runner a small cache that is kept by token, full of what sequences left."""
    num_layers = len(engine.runner.cache.keys)
    _, num_heads, _, head_dim = engine.runner.cache.keys[0].shape
    shape = KVShape(num_layers, num_heads, head_dim, torch.float32)
    made = make_used_cache(shape, num_slots, max_tokens, by_token=True)
    monkeypatch.setattr(engine.runner, "cache", made)
    return made


@pytest.fixture
def cache(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> KVCache:
    """A small one in place of the runner's, full of what sequences left."""
    return use_cache(engine, monkeypatch, NUM_SLOTS, MAX_TOKENS)


@pytest.fixture
def graphs(engine: Engine, cache: KVCache) -> DecodeGraphs:
    """Nothing is recorded: without a GPU they compute what they would replay."""
    return DecodeGraphs(engine.runner._text, cache)


@pytest.fixture
def _graphs_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine works as on a GPU."""
    made = use_cache(engine, monkeypatch, 64, 600)
    monkeypatch.setattr(engine.runner, "_graphs", DecodeGraphs(engine.runner._text, made))


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
    made.__dict__.update(template.__dict__, slot=slot, token_ids=token_ids, number=slot)
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
        slots = sorted(draw.sample(range(NUM_SLOTS), number))  # those between read their prompts, say
        sequences = [
            make_sequence(template, slot, draw.choices(range(engine.runner.vocab_size), k=length))
            for slot, length in zip(slots, lengths, strict=True)
        ]
        write_all(cache, before)
        expected = engine.runner.forward(sequences, [])
        expected_cache = read_all(cache)
        write_all(cache, before)
        logits = graphs.take(sequences)
        torch.testing.assert_close(logits, expected, atol=5e-4, rtol=0)
        after = read_all(cache)
        torch.testing.assert_close(after, expected_cache, atol=5e-4, rtol=0)
        for slot, length in zip(slots, lengths, strict=True):
            after[slot, :, :, :, length - 1] = before[slot, :, :, :, length - 1]
        assert torch.equal(after, before)


@torch.inference_mode()
@pytest.mark.usefixtures("_window")
def test_parts_of_prompts_are_read_as_without_flash_kernels(
    engine: Engine, cache: KVCache, template: Sequence
) -> None:
    draw = random.Random(5)  # noqa: S311  # not a secret
    before = read_all(cache)
    reading = []
    for slot, (start, count) in {0: (0, 1), 3: (0, 40), 4: (17, 30), 9: (320, 200)}.items():
        sequence = make_sequence(template, slot, draw.choices(range(3, engine.runner.vocab_size), k=600))
        sequence.num_prompt_tokens, sequence.num_read_tokens, sequence.spans = 600, start, ()
        reading.append((sequence, count))
    expected = engine.runner._pack([], reading)
    expected_cache = read_all(cache)
    write_all(cache, before)
    torch.testing.assert_close(engine.runner._read(reading), expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(read_all(cache), expected_cache, atol=5e-4, rtol=0)


@torch.inference_mode()
def test_what_was_launched_is_taken_by_those_who_are_left_wherever_they_are_now(
    engine: Engine, graphs: DecodeGraphs, template: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [make_sequence(template, slot, [7 + slot] * (5 + slot)) for slot in range(5)]
    expected = engine.runner.forward(sequences, [])
    graphs.launch(sequences)
    sequences[3].slot = 1  # who had it left
    monkeypatch.setattr(DecodeGraph, "run", None)  # nothing is computed again
    logits = graphs.take([sequences[n] for n in (0, 3, 4)])
    torch.testing.assert_close(logits, expected[[0, 3, 4]], atol=5e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("change", ["another token", "somebody else"])
def test_what_was_launched_for_another_step_is_not_taken(
    engine: Engine, graphs: DecodeGraphs, template: Sequence, change: str
) -> None:
    sequences = [make_sequence(template, slot, [7 + slot] * (5 + slot)) for slot in range(3)]
    graphs.launch(sequences)
    if change == "another token":
        sequences[1].token_ids.append(9)
    else:
        sequences[1] = make_sequence(template, 1, [5] * 6)
        sequences[1].number = 9
    expected = engine.runner.forward(sequences, [])
    torch.testing.assert_close(graphs.take(sequences), expected, atol=5e-4, rtol=0)


@torch.inference_mode()
def test_logits_stay_when_the_next_step_is_done(graphs: DecodeGraphs, template: Sequence) -> None:
    logits = graphs.take([make_sequence(template, 0, [7] * 5)])
    copied = logits.clone()
    graphs.launch([make_sequence(template, 0, [9] * 6)])
    assert torch.equal(logits, copied)


@pytest.mark.parametrize("num_slots", [1, 2, 3, 64, 100, 300])
def test_there_is_a_graph_for_every_number_of_sequences(engine: Engine, num_slots: int) -> None:
    cache = KVCache(KVShape(1, 1, 1, torch.float32), num_slots, 9, torch.device("cpu"), by_token=True)
    graphs = DecodeGraphs(engine.runner._text, cache)
    batches = sorted(graphs._graphs)
    assert batches == graphs._batches == sorted(set(batches))
    assert (batches[0], batches[-1]) == (1, num_slots)
    assert all(2 * small >= large for small, large in itertools.pairwise(batches)), batches
    for batch, graph in graphs._graphs.items():
        assert graph.inputs.shape == (3, batch)


def test_graphs_are_recorded_on_the_device_that_has_the_cache(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = KVCache(KVShape(1, 1, 1, torch.float32), 2, 300, torch.device("meta"), by_token=True)
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


REQUESTS = [
    Request(f"{number}", "What is this? " * number, (image,), GREEDY)
    for number in range(1, 6)
    for image in (red_circle(), TALL)[: 1 + number % 2]
]


def test_answers_with_graphs_are_those_without(engine: Engine, request: pytest.FixtureRequest) -> None:
    expected = run_tokens(engine, *REQUESTS)
    engine.prefixes.clear()
    request.getfixturevalue("_graphs_run")
    assert run_tokens(engine, *REQUESTS) == expected
    check_nothing_is_left(engine)


def test_who_ends_by_a_stop_string_or_is_cancelled_leaves_nothing_of_a_step_that_was_begun(
    engine: Engine, request: pytest.FixtureRequest
) -> None:
    """Each time the last one, whose next token is on its way, moves into the slot of who leaves."""
    asked = [replace(one, sampling=LONG) for one in REQUESTS]
    expected = run_tokens(engine, *asked)
    engine.prefixes.clear()
    request.getfixturevalue("_graphs_run")
    for one in asked:
        number = int(one.request_id)
        stops = replace(LONG, stop=(engine.processor.tokenizer.decode(expected[one.request_id][3:5]),))
        engine.add(engine.processor.prepare(replace(one, sampling=stops) if number in (1, 3) else one))
    sequences = {sequence.request_id: sequence for sequence in engine.scheduler.waiting}
    num_steps = 0
    while not engine.is_idle:
        list(engine.step())
        num_steps += 1
        if num_steps == 12:
            engine.cancel("2")
    for name in ("4", "5"):
        sequence = sequences[name]
        assert sequence.token_ids[sequence.num_prompt_tokens :] == expected[name]
    assert len(sequences["1"].token_ids) < sequences["1"].num_prompt_tokens + LONG.max_new_tokens
    check_nothing_is_left(engine)


@pytest.mark.usefixtures("_graphs_run")
def test_a_step_is_begun_before_anybody_is_told_of_the_last_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[int] = []
    launch = DecodeGraphs.launch

    def count(graphs: DecodeGraphs, sequences: list[Sequence]) -> None:
        launch(graphs, sequences)
        launched.append(len(sequences))

    monkeypatch.setattr(DecodeGraphs, "launch", count)
    sampling = SamplingParams(max_new_tokens=9, min_new_tokens=9, temperature=0.0)
    engine.add(engine.processor.prepare(Request("any", "Hello", (red_circle(),), sampling)))
    told: list[tuple[int, int]] = []
    while not engine.is_idle:
        told += [
            (event.num_generated_tokens, len(launched))
            for _, event in engine.step()
            if isinstance(event, TextDelta)
        ]
    assert told
    # By the time that a token is told, one step more was begun; none for the last token.
    assert all(num_launched == min(number, 8) for number, num_launched in told)


def test_a_step_that_cannot_be_begun_ahead_is_done_in_its_turn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "idefics2_engine.engine")
    expected = run_tokens(engine, *REQUESTS)
    monkeypatch.setattr(engine.runner, "launch", fail)
    assert run_tokens(engine, *REQUESTS) == expected


def fail(*_: Any) -> None:
    """Break a step."""
    raise RuntimeError("what a kernel might say")

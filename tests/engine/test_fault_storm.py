"""Steps break anywhere and anytime: who is not at fault gets his answer, and nothing is left of who is."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine import plain_flash
from engine.answers import check_nothing_is_left
from engine.test_storm import answer_alone, draw_question, tighten
from idefics2_engine import engine as engine_module
from idefics2_engine.decode_graph import DecodeGraphs
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.model import flash
from idefics2_engine.requests import Failed, Finished, is_last

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event

NUM_REQUESTS = 60
NUM_SLOTS, MAX_TOKENS = 8, 600
FAULT_RATE = 0.05


@dataclass
class Faults:
    """Lets what the engine calls fail now and then."""

    draw: random.Random
    num_made: Counter[str] = field(default_factory=Counter)

    def strike(self, what: str) -> None:
        """Raise, or not, as a kernel might, or as an allocator."""
        if self.draw.random() < FAULT_RATE:
            self.num_made[what] += 1
            raise self.draw.choice((RuntimeError, torch.OutOfMemoryError))("drawn by lot")

    def before(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Fail before a call."""

        def strike_and_call(*arguments: Any) -> Any:
            self.strike(what)
            return call(*arguments)

        return strike_and_call

    def around(self, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Fail before all is written, or after, or make logits that are no numbers."""

        def forward_or_not(*arguments: Any) -> torch.Tensor:
            self.strike("before forward")
            logits = forward(*arguments)
            self.strike("after forward")
            if self.draw.random() < FAULT_RATE:
                self.num_made["not finite"] += 1
                logits = logits.clone()
                logits[self.draw.randrange(len(logits))] = float("nan")
            return logits

        return forward_or_not

    def break_engine(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let an engine's steps fail at all that they do on the device."""
        monkeypatch.setattr(engine_module, "MAX_BROKEN_STEPS", 10**9)
        runner, sampler, prefixes = engine.runner, engine.sampler, engine.prefixes
        monkeypatch.setattr(runner, "forward", self.around(runner.forward))
        monkeypatch.setattr(runner, "look", self.before("look", runner.look))
        monkeypatch.setattr(runner, "launch", self.before("launch", runner.launch))
        monkeypatch.setattr(sampler, "choose", self.before("choose", sampler.choose))
        monkeypatch.setattr(prefixes, "load", self.before("load", prefixes.load))


def make_small(engine: Engine, monkeypatch: pytest.MonkeyPatch, *, has_graphs: bool) -> None:
    """Give an engine few slots, and let it decode as on a GPU, or not."""
    runner = engine.runner
    _, num_heads, _, head_dim = runner.cache.keys[0].shape
    shape = KVShape(len(runner.cache.keys), num_heads, head_dim, torch.float32)
    cache = KVCache(shape, NUM_SLOTS, MAX_TOKENS, torch.device("cpu"), by_token=has_graphs)
    monkeypatch.setattr(runner, "cache", cache)
    monkeypatch.setattr(flash, "attend", plain_flash.attend)
    monkeypatch.setattr(runner, "_graphs", DecodeGraphs(runner._text, cache) if has_graphs else None)
    monkeypatch.setattr(engine.scheduler, "_num_slots", NUM_SLOTS)


def check_step(engine: Engine) -> None:
    """What holds between any two steps."""
    running, cache = engine.scheduler.running, engine.runner.cache
    assert [sequence.slot for sequence in running] == list(range(len(running)))
    for slot in range(cache.num_slots):
        num_tokens = len(running[slot].token_ids) if slot < len(running) else 0
        assert not cache.read(slot, num_tokens, cache.max_tokens).any(), slot
    for sequence in running:
        assert set(engine.sampler._has[sequence.slot].nonzero().flatten().tolist()) == set(sequence.token_ids)
        assert sequence.num_read_tokens < len(sequence.token_ids)
        if sequence.num_generated_tokens:
            assert sequence.num_read_tokens == len(sequence.token_ids) - 1
    assert engine.images.num_bytes == sum(image.num_bytes for image in engine.images._kept.values())
    assert engine.prefixes.num_bytes == sum(block.nbytes for block in engine.prefixes._blocks.values())


@pytest.mark.parametrize("has_graphs", [False, True], ids=["in one pass", "running ahead"])
@pytest.mark.parametrize("is_tight", [False, True], ids=["wide", "tight"])
def test_whatever_breaks_each_answer_is_the_one_made_alone_or_its_beginning_and_nothing_is_left(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    has_graphs: bool,
    is_tight: bool,
) -> None:
    caplog.set_level("CRITICAL", "idefics2_engine.engine")  # tracebacks hold what was there
    draw = random.Random(11)  # noqa: S311  # not a secret
    make_small(engine, monkeypatch, has_graphs=has_graphs)
    questions = [draw_question(draw) for _ in range(12)]
    alone = [answer_alone(engine, question) for question in questions]
    chosen = {f"{number}": draw.randrange(len(questions)) for number in range(NUM_REQUESTS)}
    engine.images.clear()
    engine.prefixes.clear()
    if is_tight:
        tighten(engine, monkeypatch)
    faults = Faults(draw)
    faults.break_engine(engine, monkeypatch)
    events: dict[str, list[Event]] = {name: [] for name in chosen}
    cancelled: set[str] = set()
    for name, number in chosen.items():
        engine.add(engine.processor.prepare(replace(questions[number], request_id=name)))
    while not engine.is_idle:
        for name, event in engine.step():
            events[name].append(event)
        check_step(engine)
        if draw.random() < FAULT_RATE and engine.cancel(name := draw.choice([*chosen])):
            cancelled.add(name)
            check_step(engine)
    check_nothing_is_left(engine)
    for name, told in events.items():
        expected = alone[chosen[name]]
        assert sum(map(is_last, told)) == (name not in cancelled)
        if told and isinstance(last := told[-1], Failed):
            assert last.reason == "INTERNAL_ERROR"
            told.remove(last)
        assert told == expected[: len(told)]
    kinds = Counter(type(told[-1]) for told in events.values() if told)
    assert kinds[Finished] > NUM_REQUESTS / 4
    assert {"before forward", "after forward", "not finite", "look", "choose", "load", "launch"} <= set(
        faults.num_made
    )

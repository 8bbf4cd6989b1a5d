"""Steps by graphs are the steps without, and nothing in them waits for the host."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training import batches, pool, tokens
from training.batches import Writer
from training.descent import Descent, GraphedDescent, Recorder, Work
from training.learner import Kind, Learner, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from training.learner import Part

CPU = torch.device("cpu")
CHUNK = 4
Step = tuple[Kind, "list[Part]"]


@pytest.fixture(scope="module")
def steps(tokenizer_folder: Path, examples: pool.Pool) -> list[Step]:
    """Some of each kind; those that move more and less take turns."""
    rng = np.random.default_rng(0)
    writer = Writer(examples, tokens.load(tokenizer_folder))
    chunks = examples.epoch(rng, CHUNK)
    made: list[Step] = []
    for kind in (Kind.PATCHES, Kind.PLACES):
        made += [(kind, [*writer.see(chunks[:2], rng)]), (kind, [*writer.see(chunks[2:3], rng)])]
    made += [(Kind.REMEMBERED, [writer.write(chunks[:1], rng, shows=False)]) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_NUM_SPLIT_GROUPS", 2)
        made += [
            (kind, [writer.write_splits(rng) if kind is Kind.SPLIT else writer.write(chunks[:1], rng)])
            for kind in (Kind.ASKED, Kind.SPLIT) * 2
        ]
    return made


def descend(
    make: Callable[[Learner], Descent], examples: pool.Pool, steps: list[Step]
) -> tuple[Learner, list[dict[str, float]]]:
    """Take steps from the same first weights; return where they lead, and what each told."""
    torch.manual_seed(0)
    learner = Learner(CPU)
    learner.memory = torch.randn(examples.num_pictures, pool.SIDE**2, 128)
    descent = make(learner)
    told = []
    for kind, parts in steps:
        descent.set_rates((0.01, 1e-3))
        told.append(describe([descent.take(kind, parts)]))
    return learner, told


def test_steps_in_places_that_stay_lead_where_steps_lead(examples: pool.Pool, steps: list[Step]) -> None:
    expected, expected_told = descend(Descent, examples, steps)
    learner, told = descend(lambda it: GraphedDescent(it, records=False), examples, steps)
    assert told == expected_told
    theirs = expected.state_dict()
    for name, weight in learner.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_a_step_moves_what_its_kind_teaches_and_no_more(steps: list[Step]) -> None:
    torch.manual_seed(0)
    learner = Learner(CPU)
    descent = GraphedDescent(learner, records=False)
    descent.set_rates((0.01, 1e-3))
    for step in steps[-4:]:
        before = {name: weight.clone() for name, weight in learner.state_dict().items()}
        descent.take(*step)
        changed = {name for name, weight in learner.state_dict().items() if not weight.equal(before[name])}
        assert any(name.startswith("heads") for name in changed) == (step[0] is Kind.ASKED)


@pytest.mark.parametrize("kind", Kind)
def test_nothing_of_a_step_waits_for_the_host(kind: Kind, examples: pool.Pool, steps: list[Step]) -> None:
    torch.manual_seed(0)
    learner = Learner(CPU)
    learner.memory = torch.randn(examples.num_pictures, pool.SIDE**2, 128)
    descent = Descent(learner)
    part = next(parts[0] for of, parts in steps if of is kind)
    descent._learn(kind, part, 1.0)  # positions of a grid are made once
    descent.optimizers[0].param_groups[0]["lr"] = torch.zeros(())
    del descent.optimizers[1]  # AdamW's counts are on the device only if that is a GPU
    descent._move()
    with Watch() as watch:
        descent._learn(kind, part, 1.0)
        descent._move()
    assert watch.called["aten::bmm"] > 10
    waiting = ("scalar_dense", "nonzero", "masked_select", "unique", "bincount", "lift", "equal", "is_")
    assert not [name for name in watch.called if any(word in name for word in waiting)]
    assert not watch.by_mask


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # so in torch
    """Counts the operations that are done, and lists indexing by masks, whose results have any size."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.called: Counter[str] = Counter()
        self.by_mask: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self.called[name] += 1
        if name.startswith("aten::index") and len(args) > 1 and isinstance(args[1], list | tuple):
            self.by_mask += [name for index in args[1] if index is not None and index.dtype == torch.bool]
        return func(*args, **(kwargs or {}))


class Graph:
    """In place of CUDA's: it remembers what was recorded."""

    replayed = 0

    def replay(self) -> None:
        self.replayed += 1


def test_work_is_done_once_and_then_recorded_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, done = Graph(), []
    monkeypatch.setattr(Recorder, "record", lambda *_: graph)
    work = Work(lambda: done.append(1), Recorder(is_on=True))
    for _ in range(4):
        work.do()
    assert (len(done), graph.replayed) == (1, 3)


def test_where_nothing_can_be_recorded_work_goes_on_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def refuse(*_: Any, **__: Any) -> Iterator[None]:
        raise RuntimeError("an operation that no graph holds")
        yield

    streams: list[str] = []
    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)
    monkeypatch.setattr("torch.cuda.graph", refuse)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: "mine")
    monkeypatch.setattr("torch.cuda.set_stream", streams.append)
    done: list[int] = []
    recorder = Recorder(is_on=True)
    works = [Work(lambda: done.append(1), recorder) for _ in range(2)]
    for work in works * 3:
        work.do()
    assert len(done) == 6
    assert streams == ["mine"]
    assert capsys.readouterr().out == (
        "steps go on without graphs, and slowly: an operation that no graph holds\n"
    )

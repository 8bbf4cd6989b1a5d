"""Tokens are chosen as transformers chooses them, for many at once as for one."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
import torch
from idefics2_engine.requests import SamplingParams
from idefics2_engine.sampler import Row, Sampler
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB_SIZE = 771
BANNED, EOS = [768, 769], [2, 770]
NUM_PROMPT_TOKENS = 40
GRID = [
    SamplingParams(
        repetition_penalty=penalty, temperature=temperature, top_k=top_k, top_p=top_p, min_new_tokens=least
    )
    for penalty, temperature, top_k, top_p, least in itertools.product(
        (1.0, 1.3, 0.8), (0.0, 0.4, 1.0, 7.0), (0, 1, 50, 1000), (1.0, 0.9, 0.01), (0, 9)
    )
]


def make(num_slots: int = 64) -> Sampler:
    """Make a sampler of the embedded checkpoint's kind."""
    return Sampler(num_slots, VOCAB_SIZE, BANNED, EOS)


def process_with_transformers(
    params: SamplingParams, logits: torch.Tensor, token_ids: torch.Tensor
) -> torch.Tensor:
    """Line up transformers' own processors in its order."""
    steps = [RepetitionPenaltyLogitsProcessor(params.repetition_penalty)]
    steps.append(NoBadWordsLogitsProcessor([[token] for token in BANNED], EOS))
    if params.min_new_tokens:
        steps.append(MinNewTokensLengthLogitsProcessor(NUM_PROMPT_TOKENS, params.min_new_tokens, EOS))
    if params.temperature:
        steps.append(TemperatureLogitsWarper(params.temperature))
        steps += [TopKLogitsWarper(params.top_k)] if params.top_k else []
        steps += [TopPLogitsWarper(params.top_p)] if params.top_p < 1 else []
    scores: torch.Tensor = LogitsProcessorList(steps)(token_ids, logits)
    return scores


def test_scores_equal_those_of_transformers_for_every_mix_of_requests_in_a_batch() -> None:
    torch.manual_seed(0)
    draw = random.Random(1)  # noqa: S311
    for _ in range(40):
        params = draw.sample(GRID, draw.randint(1, 32))
        ids = torch.randint(0, VOCAB_SIZE, (len(params), NUM_PROMPT_TOKENS + 5))
        logits = torch.randn(len(params), VOCAB_SIZE) * 5
        sampler = make()
        slots = draw.sample(range(64), len(params))
        for slot, token_ids in zip(slots, ids.tolist(), strict=True):
            sampler.begin(slot, token_ids)
        rows = [Row(slot, p, ids.shape[1], 5) for slot, p in zip(slots, params, strict=True)]
        scores = sampler.process(logits, rows)
        for number, one in enumerate(params):
            expected = process_with_transformers(one, logits[number : number + 1], ids[number : number + 1])
            torch.testing.assert_close(scores[number : number + 1], expected, atol=1e-5, rtol=0)


def test_the_same_request_gets_the_same_token_alone_and_in_any_batch() -> None:
    torch.manual_seed(1)
    params = [replace(p, seed=n) for n, p in enumerate(GRID[:64])]
    logits = torch.randn(64, VOCAB_SIZE) * 3
    sampler = make()
    rows = [Row(slot, p, 50 + slot, 10) for slot, p in enumerate(params)]
    together = sampler.choose(logits, rows)
    order = torch.randperm(64)
    sampler = make()
    shuffled = sampler.choose(logits[order], [rows[n] for n in order])
    assert shuffled == [together[n] for n in order]
    for number, row in enumerate(rows):
        assert make().choose(logits[number : number + 1], [row]) == [together[number]]


def test_what_was_chosen_counts_as_said() -> None:
    sampler = make(2)
    logits = torch.zeros(1, VOCAB_SIZE)
    logits[0, 5], logits[0, 6] = 1.1, 1.0
    params = SamplingParams(temperature=0, repetition_penalty=1.2)
    row = Row(1, params, 1, 0)
    assert sampler.choose(logits, [row]) == [5]
    assert sampler.choose(logits, [row]) == [6]
    sampler.move(1, 0)
    sampler.begin(1, [])
    assert sampler.choose(logits, [row, replace(row, slot=0)][:1]) == [5]
    assert sampler.choose(logits, [replace(row, slot=0)]) == [5]  # 1.1 / 1.2 is above 1 / 1.2


def test_a_token_that_was_chosen_in_a_step_that_fails_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(_: torch.Tensor) -> list[int]:
        raise torch.OutOfMemoryError("there is none left")

    sampler = make(2)
    logits = torch.zeros(1, VOCAB_SIZE)
    logits[0, 5], logits[0, 6] = 1.1, 1.0
    row = Row(1, SamplingParams(temperature=0, repetition_penalty=1.2), 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "tolist", lack)
        with pytest.raises(torch.OutOfMemoryError):
            sampler.choose(logits, [row])
    assert sampler.choose(logits, [row]) == [5]


def test_sampling_follows_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -50.0]])
    counts = [0, 0, 0, 0]
    sampler = Sampler(1, 4, [], [3])
    for seed in range(3000):
        params = SamplingParams(repetition_penalty=1.0, temperature=1.0, top_p=1.0, seed=seed)
        (token,) = sampler.choose(logits, [Row(0, params, 1, 1)])
        assert token is not None
        counts[token] += 1
    shares = torch.tensor(counts) / 3000
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=0.04, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_cost_their_own_request_alone(value: float) -> None:
    logits = torch.randn(3, VOCAB_SIZE)
    logits[1, 7] = value
    params = SamplingParams(temperature=1.0)
    first, broken, last = make().choose(logits, [Row(slot, params, 9, 1) for slot in range(3)])
    assert broken is None
    assert first is not None
    assert last is not None


def test_tokens_that_are_ruled_out_are_never_drawn() -> None:
    sampler = make()
    logits = torch.zeros(64, VOCAB_SIZE)
    params = [SamplingParams(temperature=10, top_p=1, min_new_tokens=5, seed=n) for n in range(64)]
    for position in range(100):
        chosen = sampler.choose(logits, [Row(n, p, position, 1) for n, p in enumerate(params)])
        assert not {*BANNED, *EOS} & set(chosen)

"""Losses of known shapes are those that choose what counts, and padding does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from training import batches, pool, tokens
from training.batches import Batch, Writer
from training.learner import Kind, Learner, describe
from training.losses import judge, judge_offsets
from training.model import grid_positions, look, make_model, resample

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_what_is_there_and_what_is_not_are_averaged_apart(share: float) -> None:
    torch.manual_seed(0)
    read = torch.randn(3, 40, 7, requires_grad=True)
    wanted = torch.randint(1, 7, (3, 40)) * (torch.rand(3, 40) < share)
    each = F.cross_entropy(read.flatten(0, 1), wanted.flatten(), reduction="none").view(3, 40)
    expected = 0.5 * each[wanted == 0].mean() + (each[wanted > 0].mean() if share else 0)
    assert_same(judge(read, wanted), expected, read)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_offsets_are_averaged_where_something_is(share: float) -> None:
    torch.manual_seed(0)
    read, wanted = torch.randn(3, 40, 2, requires_grad=True), torch.randn(3, 40, 2)
    chosen = torch.rand(3, 40) < share
    each = F.smooth_l1_loss(read[chosen], wanted[chosen], reduction="none", beta=0.25)
    assert_same(judge_offsets(read, wanted, chosen), each.mean(0).sum(), read)


def assert_same(ours: Tensor, expected: Tensor, read: Tensor) -> None:
    """Compare values and gradients."""
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(loss, read)[0] for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_pictures_of_every_grid_are_seen_as_transformers_sees_them() -> None:
    torch.manual_seed(0)
    model = make_model()
    side = range(pool.SHORTEST // pool.PATCH, pool.SIDE + 1)
    with torch.no_grad():
        for rows, columns in ((rows, columns) for rows in side for columns in side):
            pixels = torch.rand(2, 3, rows * pool.PATCH, columns * pool.PATCH) * 2 - 1
            hidden = model.model.vision_model(pixel_values=pixels).last_hidden_state
            expected = model.model.connector.modality_projection(hidden)
            context = look(model, pixels, grid_positions(rows, columns))
            torch.testing.assert_close(context, expected, atol=1e-5, rtol=1e-5)
            everything = torch.ones(context.shape[:2], dtype=torch.bool)
            read = model.model.connector.perceiver_resampler(context=context, attention_mask=everything)
            torch.testing.assert_close(
                resample(model, context), getattr(read, "last_hidden_state", read), atol=1e-5, rtol=1e-5
            )


def test_a_batch_that_is_filled_up_teaches_what_it_would_without(
    tokenizer_folder: Path, examples: pool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.learner.Learner.low_precision", lambda _: torch.enable_grad())
    torch.manual_seed(0)
    learner = Learner(CPU)
    learner.memory = torch.randn(examples.num_pictures, pool.SIDE**2, 128)
    told: list[tuple[Batch, Tensor, dict[str, Tensor], dict[str, float]]] = []
    for length, num_tokens, num_answers in ((1, 1, 1), (96, 512, 128)):
        monkeypatch.setattr(batches, "_LENGTHS", length)
        monkeypatch.setattr(batches, "_TOKENS", num_tokens)
        monkeypatch.setattr(batches, "_ANSWERS", num_answers)
        rng = np.random.default_rng(1)
        writer = Writer(examples, tokens.load(tokenizer_folder))
        batch = writer.write(examples.epoch(rng, 8)[:1], rng, shows=False)
        learner.zero_grad()
        loss = learner.judge(Kind.REMEMBERED, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
        learner.figures.close()
        told.append((batch, loss.detach(), gradients, describe([learner.figures.means])))
    (plain, *expected), (filled, *made) = told
    assert filled.input_ids.shape[1] > plain.input_ids.shape[1]
    assert len(filled.answers) > len(plain.answers)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    assert "right all" in told[0][3]


def test_of_each_answer_all_tokens_together_weigh_as_the_root_of_their_number(
    tokenizer_folder: Path, examples: pool.Pool
) -> None:
    rng = np.random.default_rng(1)
    batch = Writer(examples, tokens.load(tokenizer_folder)).write(examples.epoch(rng, 8)[:1], rng)
    for number in range(len(batch.kinds)):
        mine = batch.weights[batch.answers[:, 2] == number]
        weighs = len(mine) ** 0.5 if batch.kinds[number] < len(batches.KINDS) else 0
        assert float(mine.sum()) == pytest.approx(weighs, abs=1e-5)

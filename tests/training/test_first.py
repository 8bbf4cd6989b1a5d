"""What has learned already can be begun with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from training.first import begin_with, keep_weights
from training.learner import Learner
from training.plan import Lesson, Plan
from training.train import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from training.pool import Pool

LATENTS = "model.connector.perceiver_resampler.latents"
PLAN = Plan(steps=((Lesson.SHAPES, 1), (Lesson.PLACES, 2)), chunks=1, chunk=8)


@pytest.fixture
def kept(tmp_path: Path, tokenizer_folder: Path, examples: Pool) -> Path:
    """Weights of which two steps taught, the second what is where."""
    folder = tmp_path / "before"
    folder.mkdir()
    (folder / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(PLAN, examples, folder)
    for batch in trainer.batches():
        trainer.learn(batch)
    trainer.save()
    keep_weights(folder / "state.pt", tmp_path / "kept.safetensors")
    return tmp_path / "kept.safetensors"


@pytest.fixture
def folder(tmp_path: Path, tokenizer_folder: Path) -> Path:
    """Where nothing was trained yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "tokenizer").symlink_to(tokenizer_folder)
    return folder


def test_training_begins_with_all_that_was_kept(kept: Path, folder: Path, examples: Pool) -> None:
    trainer = Trainer(PLAN.skip_to(Lesson.PLACES), examples, folder, kept)
    weights = load_file(kept)
    theirs = {name: weight for name, weight in weights.items() if not name.startswith("heads.")}
    mine = {name: parameter.half() for name, parameter in trainer.learner.model.named_parameters()}
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    heads = {
        f"heads.{name}": parameter.half() for name, parameter in trainer.learner.heads.named_parameters()
    }
    torch.testing.assert_close(
        heads, {name: weight for name, weight in weights.items() if name in heads}, rtol=0, atol=0
    )
    assert trainer.plan.steps == ((Lesson.PLACES, 2),)


def test_latents_that_know_their_cells_are_not_pointed_at_them_anew(
    kept: Path, folder: Path, examples: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLAN.skip_to(Lesson.PLACES)
    trainer = Trainer(plan, examples, folder, kept)
    trainer.learn(next(trainer.batches()))
    assert "point at" not in capsys.readouterr().out
    anew = Trainer(plan, examples, folder)
    anew.learn(next(anew.batches()))
    assert "point at" in capsys.readouterr().out


def test_training_that_was_broken_off_goes_on_though_it_began_with_others(
    kept: Path, folder: Path, examples: Pool
) -> None:
    trainer = Trainer(PLAN, examples, folder, kept)
    trainer.learn(next(trainer.batches()))
    trainer.save()
    again = Trainer(PLAN, examples, folder, kept)
    assert again.step == 1
    torch.testing.assert_close(again.learner.state_dict(), trainer.learner.state_dict(), rtol=0, atol=0)


def test_layers_that_the_weights_lack_begin_as_nothing(kept: Path, tmp_path: Path) -> None:
    whole, part = Learner(torch.device("cpu")), Learner(torch.device("cpu"))
    assert begin_with(kept, whole) == []
    weights = {n: w for n, w in load_file(kept).items() if "encoder.layers.5." not in n}
    weights[LATENTS] = weights[LATENTS][:36].clone()
    save_file(weights, tmp_path / "smaller.safetensors")
    left = begin_with(tmp_path / "smaller.safetensors", part)
    assert LATENTS in left
    assert {name for name in left if name != LATENTS} == {
        name
        for name, _ in part.model.named_parameters()
        if "encoder.layers.5." in name and name.split(".")[-2] not in {"fc2", "out_proj"}
    }
    stream = torch.randn(1, 5, 192)
    layers = part.model.model.vision_model.encoder.layers
    torch.testing.assert_close(layers[5](stream, None), stream)
    assert not torch.equal(layers[4](stream, None), stream)

"""The recipe trains a real Idefics2, goes on where it stopped, and writes what transformers loads."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from idefics2_engine.requests import Finished, Request, SamplingParams
from pictures import red_circle
from training import pool, tokens
from training.__main__ import main
from training.batches import KINDS, Batch, Writer
from training.evaluate import Score, render, score, wilson
from training.export import FILES, export
from training.learner import Kind, describe
from training.losses import judge, judge_offsets, penalize
from training.model import ATTENTION, AuxiliaryHeads, make_model, point_latents
from training.plan import Lesson, Plan
from training.train import Trainer, scale_rates
from transformers import AttentionInterface, RepetitionPenaltyLogitsProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK = 8
PLAN = Plan(
    steps=((Lesson.ALL, 1), (Lesson.PLACES, 2), (Lesson.ANSWERS, 3), (Lesson.TOGETHER, 1)),
    chunks=1,
    chunk=CHUNK,
    seed=3,
)


def train(folder: Path, tokenizer_folder: Path, examples: pool.Pool, *, steps: int) -> Trainer:
    """Train `steps` steps, and leave it."""
    if not (folder / "tokenizer").exists():
        (folder / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(PLAN, examples, folder)
    for batch in trainer.batches():
        if trainer.step == steps:
            break
        trainer.learn(batch)
    trainer.save()
    return trainer


def test_training_that_was_broken_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    once = train(whole, tokenizer_folder, examples, steps=7)
    for steps in (2, 5, 7):  # in the middle of lessons
        again = train(broken, tokenizer_folder, examples, steps=steps)
    assert again.step == once.step == 7
    theirs = again.learner.state_dict()
    for name, weight in once.learner.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, examples: pool.Pool) -> Path:
    """What is exported after one step."""
    folder = tmp_path_factory.mktemp("exported")
    train(folder, tokenizer_folder, examples, steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, of its progress bar
        export(folder / "state.pt", tokenizer_folder, folder / "checkpoint")
    return folder / "checkpoint"


def test_what_is_exported_is_loaded_and_answers_by_the_code_of_the_large_model(checkpoint: Path) -> None:
    assert {file.name for file in checkpoint.iterdir()} == set(FILES)
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 12_000_000
    engine = Engine(EngineConfig(checkpoint=str(checkpoint)))
    request = Request("one", "What is this?", (red_circle(),), SamplingParams(max_new_tokens=3))
    engine.add(engine.processor.prepare(request))
    events = [event for _ in range(5) for _, event in engine.step()]
    assert isinstance(events[-1], Finished)


def test_a_question_sees_its_picture_and_no_other_question(
    tokenizer_folder: Path, examples: pool.Pool
) -> None:
    batch = write(tokenizer_folder, examples)
    prefix = 3 + 66  # <s>, User, :, the picture between its boundaries
    positions, looks = batch.positions[0], batch.mask[0, 0]
    starts = [place for place in range(prefix, len(positions)) if positions[place] == prefix]
    assert len(starts) >= 2
    for first, second in pairwise(starts):
        assert looks[second, :prefix].all()
        assert looks[second - 1, first:second].all()
        assert not looks[second:, first:second].any()


def test_answers_are_learned_and_questions_are_not(tokenizer_folder: Path, examples: pool.Pool) -> None:
    batch = write(tokenizer_folder, examples)
    tokenizer: Any = tokens.load(tokenizer_folder)
    for number in range(int((batch.kinds < len(KINDS)).sum())):
        mine = batch.answers[batch.answers[:, 2] == number]
        text = tokenizer.decode(batch.input_ids[mine[:, 0], mine[:, 1]])
        assert text.endswith(".<end_of_utterance>"), text


def test_a_topic_is_asked_about_where_a_picture_allows_it(
    tokenizer_folder: Path, examples: pool.Pool
) -> None:
    writer, rng = Writer(examples, tokens.load(tokenizer_folder)), np.random.default_rng(1)
    chunk = max(examples.epoch(rng, CHUNK, pool.Level.SHAPES), key=count_things_of(examples))
    batch = writer.write([chunk], rng, shows=False, topic="relation")
    answers = batch.answers[batch.kinds[batch.answers[:, 2]] < len(KINDS)]
    for row, picture in enumerate(chunk):
        mine = {KINDS[batch.kinds[n]] for n in answers[answers[:, 0] == row, 2].tolist()}
        if len({(thing.shape, thing.color) for thing in examples.examples[picture].scene.things}) > 1:
            assert "relation" in mine
        else:
            assert "relation" not in mine


def count_things_of(examples: pool.Pool) -> Callable[[NDArray[np.int64]], int]:
    """Count the things in the pictures of a chunk."""
    return lambda chunk: sum(len(examples.examples[n].scene.things) for n in chunk)


def write(tokenizer_folder: Path, examples: pool.Pool) -> Batch:
    """Write the first batch."""
    rng = np.random.default_rng(1)
    return Writer(examples, tokens.load(tokenizer_folder)).write(examples.epoch(rng, CHUNK)[:1], rng)


def test_a_question_is_written_as_the_service_writes_it(checkpoint: Path, examples: pool.Pool) -> None:
    rows = write(checkpoint, examples).input_ids.tolist()
    end = tokens.NUM_PIECES + 2
    processor = Engine(EngineConfig(checkpoint=str(checkpoint))).processor
    for row in rows[:CHUNK]:  # of one picture
        prompt = row[: row.index(end) + 4]  # with the cue of the answer
        question = processor.tokenizer.decode(prompt[69:-4])
        prepared = processor.prepare(Request("one", question, (red_circle(),)))
        assert prepared.token_ids == prompt, question


def test_any_text_survives_the_tokenizer(tokenizer_folder: Path) -> None:
    tokenizer: Any = tokens.load(tokenizer_folder)
    for text in (
        "What color is the circle?",
        "4821",
        "CAFE",
        "Какого цвета круг?",
        "圆是什么颜色? 🙂",
        "a  b\n\tc",
    ):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_latents_look_at_their_own_cell_from_the_start() -> None:
    torch.manual_seed(0)
    model = make_model()
    side = pool.SIDE
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).flatten(
        0, 1
    )
    features = torch.randn(2, side, 128)
    context = (features[0, places[:, 0]] + features[1, places[:, 1]])[None] + 0.05 * torch.randn(
        20, side * side, 128
    )
    assert point_latents(model, [(context, places)]) > 0.8
    attention = model.model.connector.perceiver_resampler.layers[0].self_attn
    latents = torch.nn.functional.rms_norm(model.model.connector.perceiver_resampler.latents, (128,))
    keys = attention.k_proj(torch.nn.functional.rms_norm(context[0], (128,)))[:, :32]
    looks = (attention.q_proj(latents)[:, :32] @ keys.T / 32**0.5).softmax(-1)
    centers = looks @ places.float()
    wanted = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    assert (centers - wanted).abs().mean() < 0.5


def test_empty_places_do_not_drown_the_others() -> None:
    read = torch.zeros(1, 100, 3)
    read[..., 0] = 5
    wanted = torch.zeros(1, 100, dtype=torch.long)
    wanted[0, 0] = 1
    assert judge(read, wanted) > 4


def test_offsets_count_only_where_something_is() -> None:
    read, wanted = torch.zeros(1, 3, 2), torch.tensor([[[1.0, -2.0], [0.0, 0.0], [9.0, 9.0]]])
    is_something = torch.tensor([[True, True, False]])
    assert judge_offsets(read, wanted, is_something).item() == pytest.approx((1 + 2 - 2 * 0.125) / 2)
    assert judge_offsets(read, wanted, is_something & False).item() == 0


def test_a_thing_is_read_right_where_class_color_and_characters_all_are() -> None:
    heads = AuxiliaryHeads()
    things, places = torch.zeros(1, 15, 3, dtype=torch.long), torch.zeros(1, 15, 3)
    things[0, :3] = torch.tensor(_LOOKS)
    places[0, :3] = torch.tensor([[1.2, 1.2, 1.0], [5.5, 2.5, 1.0], [7.5, 7.5, 1.0]])
    with torch.no_grad():
        heads.of_slots.weight.zero_()
        heads.of_slots.bias.zero_()
        for start, value in zip(_starts(heads), _LOOKS[0], strict=True):
            heads.of_slots.bias[start + value] = 5
    latents, backgrounds = torch.zeros(1, 64, 128), torch.zeros(1, dtype=torch.long)
    loss, is_right, is_thing = heads.slot_loss(latents, things, places, backgrounds, (8, 8))
    assert is_thing.nonzero()[:, 1].tolist() == [
        1 * 8 + 1,
        2 * 8 + 5,
        7 * 8 + 7,
    ]  # the nearest, where all cost alike
    assert is_right[is_thing].tolist() == [True, False, True]
    assert not is_right[~is_thing].any()  # they tell of a thing where none is
    assert loss > 0


def test_in_pictures_of_another_shape_than_square_latents_stand_where_their_patches_lie() -> None:
    things, places = torch.zeros(1, 15, 3, dtype=torch.long), torch.zeros(1, 15, 3)
    things[0, 0], places[0, 0] = torch.tensor(_LOOKS[0]), torch.tensor([6.5, 3.2, 0.5])
    latents, backgrounds = torch.zeros(1, 64, 128), torch.zeros(1, dtype=torch.long)
    _, _, is_thing = AuxiliaryHeads().slot_loss(latents, things, places, backgrounds, (4, 8))
    assert is_thing.nonzero()[:, 1].tolist() == [6 * 8 + 6]  # 3.25 patches down are 6.5 of 8 rows


_LOOKS = ((7, 3, 11), (7, 3, 12), (7, 3, 11))
"""Class, color and character of the things of a test: two like each other, one with another character."""


def _starts(heads: AuxiliaryHeads) -> list[int]:
    """Where the numbers of class, color and character begin among those of a slot."""
    looks, colors, _ = heads.classes
    return [0, looks, looks + colors]


def test_nothing_is_asked_while_it_learns_to_see(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.wording.SEEN", {})
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    batches = Trainer(PLAN, examples, tmp_path).batches()
    assert all(isinstance(batch, list) for batch in islice(batches, 3))
    with pytest.raises(KeyError):
        next(batches)


@pytest.mark.parametrize("lesson", [Lesson.ANSWERS, Lesson.AGAIN])
def test_while_answers_are_learned_from_memory_nothing_changes_in_what_it_sees(
    lesson: Lesson, tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(
        Plan(steps=((lesson, 2), (Lesson.TOGETHER, 1)), chunks=1, chunk=CHUNK), examples, tmp_path
    )
    kept = [{name: p.detach().clone() for name, p in trainer.learner.model.named_parameters()}]
    for batch in trainer.batches():
        trainer.learn(batch)
        kept.append({name: p.detach().clone() for name, p in trainer.learner.model.named_parameters()})
    changed = [
        {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
        for before, after in pairwise(kept)
    ]
    assert changed[:2] == [{"text_model", "weight"}] * 2  # and of the head, the weight
    assert changed[2] == {"vision_model", "connector", "text_model", "weight"}


@pytest.mark.parametrize("lesson", [Lesson.PLACES, Lesson.ANSWERS, Lesson.TOGETHER])
def test_a_processor_that_multiplies_in_bfloat16_learns_as_others_do(
    lesson: Lesson,
    tmp_path: Path,
    tokenizer_folder: Path,
    examples: pool.Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(Plan(steps=((lesson, 2),), chunks=1, chunk=CHUNK), examples, tmp_path)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    batch = next(trainer.batches())
    assert describe([trainer.learn(batch)])["norm"] > 0
    part = batch[0] if isinstance(batch, list) else batch
    loss = trainer.learner.judge(Kind.of(lesson, part), part).item()
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert trainer.learner.judge(Kind.of(lesson, part), part).item() == pytest.approx(loss, rel=0.02)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's, as it traces
def test_a_compiled_step_teaches_the_same(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    plain, compiled = (
        Trainer(Plan(steps=((Lesson.TOGETHER, 2),), chunks=1, chunk=CHUNK), examples, tmp_path)
        for _ in range(2)
    )
    compiled.learner.compile_parts(backend="aot_eager")
    for batch in plain.batches():
        told = describe([compiled.learn(batch)])
        assert told == pytest.approx(describe([plain.learn(batch)]), rel=1e-3)
    assert told["norm"] > 0


@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_attention_with_a_mask_is_torchs_own(num_groups: int) -> None:
    query = torch.randn(2, 4, 7, 8, requires_grad=True)
    key, value = (torch.randn(2, num_groups, 7, 8, requires_grad=True) for _ in range(2))
    mask = torch.zeros(2, 1, 7, 7).masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -1e9)
    own = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    ours, _ = AttentionInterface()[ATTENTION](torch.nn.Identity(), query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(ours, own.transpose(1, 2))
    wanted = torch.autograd.grad(own.square().sum(), (query, key, value))
    torch.testing.assert_close(torch.autograd.grad(ours.square().sum(), (query, key, value)), wanted)


def test_what_is_remembered_of_each_picture_is_what_the_latents_say_of_it(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(Plan(steps=((Lesson.ANSWERS, 1),), chunks=1, chunk=CHUNK), examples, tmp_path)
    rng = np.random.default_rng(0)
    trainer.learn(next(trainer.batches()))
    memory = torch.from_numpy(np.load(tmp_path / "memory.npy"))
    assert len(memory) == examples.num_pictures
    batches = [
        trainer.writer.write(examples.epoch(rng, CHUNK)[:3], rng),
        trainer.writer.write_splits(rng),
    ]
    for batch in batches:
        with torch.no_grad():
            said = torch.cat(
                [trainer.learner.latents(trainer.learner.context(seen.pixels)) for seen in batch.seen]
            )
        nearest = torch.cdist(said.flatten(1), memory[batch.pictures].float().flatten(1)).argmin(1)
        # Not each: a picture is a little brighter or darker in a batch, and some are alike.
        assert (batch.pictures[nearest] == batch.pictures).float().mean() > 0.8


def test_a_lesson_from_memory_looks_at_everything_anew_unless_nothing_has_changed(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    steps = ((Lesson.ANSWERS, 2), (Lesson.TOGETHER, 2), (Lesson.RELATIONS, 1), (Lesson.AGAIN, 1))
    trainer = Trainer(Plan(steps=steps, chunks=1, chunk=CHUNK), examples, tmp_path)
    remembered = []
    for batch in trainer.batches():
        trainer.learn(batch)
        assert trainer.learner.memory is not None
        remembered.append((trainer.learner.memory.data_ptr(), trainer.learner.memory.clone()))
    assert len({place for place, _ in remembered}) == 1  # where recorded steps look for it
    is_kept = [torch.equal(first, second) for (_, first), (_, second) in pairwise(remembered)]
    assert is_kept == [True, True, True, False, True]


def test_seeing_is_reported_as_things_read_right(
    tmp_path: Path, tokenizer_folder: Path, examples: pool.Pool
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    trainer = Trainer(PLAN, examples, tmp_path)
    reports = [describe([trainer.learn(batch)]) for batch in trainer.batches()]
    for name in ("things", "pictures"):
        assert [name in report for report in reports] == [False, True, True, False, False, False, True]
        assert all(0 <= report.get(name, 0) <= 1 for report in reports)


def test_the_plan_finds_the_lesson_of_a_step() -> None:
    assert PLAN.num_steps == 7
    assert [PLAN.find(step)[0] for step in range(7)] == [lesson for lesson, n in PLAN.steps for _ in range(n)]
    with pytest.raises(IndexError):
        PLAN.find(7)
    assert Plan().shorten(0.00001).num_steps == len(Lesson)


def test_rates_rise_stay_and_sink_to_where_the_next_lesson_begins() -> None:
    assert {scale_rates(lesson, 0, 1000) for lesson in Lesson} == {0.02}
    assert scale_rates(Lesson.ALL, 999, 1000) == 1
    assert scale_rates(Lesson.PLACES, 600, 1000) == scale_rates(Lesson.ANSWERS, 600, 1000) == 1
    assert scale_rates(Lesson.PLACES, 800, 1000) == pytest.approx(0.55)
    assert scale_rates(Lesson.ANSWERS, 1000, 1000) == pytest.approx(0.4)
    assert scale_rates(Lesson.TOGETHER, 500, 1000) == 0.5
    assert scale_rates(Lesson.TOGETHER, 1000, 1000) == scale_rates(Lesson.AGAIN, 1000, 1000) == 0


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785), (50, 100, 0.4038, 0.5962)],
)
def test_intervals_are_those_of_wilson(right: int, asked: int, low: float, high: float) -> None:
    assert wilson(right, asked) == pytest.approx((low, high), abs=1e-4)


def test_a_score_counts_mistakes_and_the_table_shows_them() -> None:
    made = score("count", [("2.", "2."), ("2.", "3."), ("2.", "3."), ("1.", "2.")])
    assert made == Score("count", 4, 1, *wilson(1, 4), (("2.", "3.", 2), ("1.", "2.", 1)))
    assert "| count | 4 | 25.0% |" in render([made])
    assert "2. → 3. (2); 1. → 2. (1)" in render([made])


def test_the_penalty_is_that_of_transformers() -> None:
    logits, ids = torch.randn(4, 20), torch.randint(20, (4, 7))
    theirs = RepetitionPenaltyLogitsProcessor(1.2)(ids, logits.clone())
    torch.testing.assert_close(penalize(logits, ids, torch.ones(4, 7, dtype=torch.bool)), theirs)
    torch.testing.assert_close(penalize(logits, ids, torch.zeros(4, 7, dtype=torch.bool)), logits)


def test_one_command_makes_a_checkpoint_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.pool.SHARD", 1_200)
    monkeypatch.setattr("training.pool.draw_pool", draw_here)
    monkeypatch.setattr("training.plan.Plan", partial(Plan, chunks=1, chunk=CHUNK))
    monkeypatch.setattr("training.tokens.build", partial(tokens.build, num_scenes=1500))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # so small a model is slower on several
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = ("--folder", str(tmp_path), "--checkpoint", str(tmp_path / "made"), "--shards", "1")
        assert main(["train", *options, "--share", "0.0001"]) == 0
    told = capsys.readouterr().out
    assert "drawn" in told
    assert "trains on the CPU, in 1 threads" in told or torch.cuda.is_available()
    assert {file.name for file in (tmp_path / "made").iterdir()} == {*FILES, "curve.png"}


def draw_here(folder: Path, num_shards: int, seed: int, _: int) -> Iterator[int]:
    """Draw in this process, where the shards are small."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_shards):
        pool.make_shard((str(folder), seed, number))
        yield number + 1

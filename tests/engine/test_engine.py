"""The engine says what transformers says, to each request alone, whoever else is there."""

from __future__ import annotations

import logging
import random
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.answers import check_nothing_is_left, run, run_tokens, text_of
from idefics2_engine.config import CACHE_SCOPES
from idefics2_engine.engine import MAX_BROKEN_STEPS
from idefics2_engine.errors import EngineFault, InvalidRequest
from idefics2_engine.logs import Lines
from idefics2_engine.names import make_name
from idefics2_engine.requests import Failed, Finished, Request, SamplingParams, StageEntered, is_last
from pictures import (
    NUM_IMAGE_TOKENS,
    NUM_PROMPT_TOKENS,
    RED_CIRCLE_PIECES,
    draw_red_circle,
    encode,
    red_circle,
)
from PIL import Image

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from reference import Reference

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARAMETERS = f'{{"traceparent": "00-{TRACE_ID}-00f067aa0ba902b7-01"}}'
GREEDY = SamplingParams(max_new_tokens=24, repetition_penalty=1.0, temperature=0.0)
BLACK = encode(Image.new("RGB", (120, 90)))
WIDE = encode(draw_red_circle((290, 97)))
TALL = encode(draw_red_circle((60, 180)), "JPEG")
CASES = [
    ("Describe the image.", (red_circle(),), False),
    ("What color is the background?", (WIDE,), False),
    ("How many shapes are there?", (TALL,), True),
    ("What is this?", (BLACK,), False),
    ("Are these the same? " * 20, (red_circle(), WIDE), False),
    ("Describe both.", (TALL, BLACK, WIDE), True),
    ("Are these the same?", (red_circle(), red_circle()), False),
    ("What do you see? " * 60, (WIDE, TALL, BLACK, red_circle()), True),
]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_greedy_tokens_equal_those_of_transformers_generate(
    engine: Engine, reference: Reference, case: int, penalty: float
) -> None:
    prompt, images, split = CASES[case]
    sampling = SamplingParams(
        max_new_tokens=24, min_new_tokens=12, repetition_penalty=penalty, temperature=0.0
    )
    request = Request("one", prompt, images, sampling, split)
    assert run_tokens(engine, request)["one"] == reference.generate(request)


def draw_another(number: int) -> bytes:
    """Draw a picture that is no other number's."""
    return encode(Image.new("RGB", (120, 90), (number, 0, 0)))


def test_greedy_tokens_equal_those_of_generate_in_any_company(engine: Engine, reference: Reference) -> None:
    draw = random.Random(7)  # noqa: S311
    requests = [
        Request(f"{n}-{least}", prompt, images, replace(GREEDY, min_new_tokens=least), split)
        for n, (prompt, images, split) in enumerate(CASES)
        for least in (0, 7, 24)
    ]
    expected = {request.request_id: reference.generate(request) for request in requests}
    for _ in range(2):  # without and with what the caches know
        draw.shuffle(requests)
        assert run_tokens(engine, *requests) == expected
    check_nothing_is_left(engine)


@pytest.mark.parametrize("max_step_tokens", [1, 7, 64])
def test_answers_do_not_depend_on_how_prompts_are_cut(
    engine: Engine, reference: Reference, max_step_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", max_step_tokens)
    monkeypatch.setattr(engine.scheduler, "_max_step_patches", 1)
    requests = [Request(f"{n}", *case[:2], GREEDY, case[2]) for n, case in enumerate(CASES)]
    expected = {request.request_id: reference.generate(request) for request in requests}
    assert run_tokens(engine, *requests) == expected


def test_answers_are_the_same_alone_and_in_any_company(engine: Engine) -> None:
    wild = [
        SamplingParams(max_new_tokens=20, min_new_tokens=5 * n, temperature=3.0, top_p=1.0, seed=n)
        for n in range(4)
    ]
    requests = [
        Request(f"{number}-{index}", prompt, images, sampling, split)
        for number, (prompt, images, split) in enumerate(CASES)
        for index, sampling in enumerate((GREEDY, *wild))
    ]
    alone = {request.request_id: text_of(run(engine, request)[request.request_id]) for request in requests}
    random.Random(3).shuffle(requests)  # noqa: S311
    together = {request_id: text_of(events) for request_id, events in run(engine, *requests).items()}
    assert together == alone
    assert len(set(alone.values())) > len(requests) // 2  # the seeds do make a difference


def test_in_bfloat16_a_request_that_is_alone_gets_the_same_tokens_each_time(bfloat16_engine: Engine) -> None:
    """In company it may get others: products round otherwise with the number of rows in a step."""
    sampling = SamplingParams(max_new_tokens=24, min_new_tokens=12, temperature=1.5, top_p=1.0)
    requests = [
        Request(f"{number}", prompt, images, replace(sampling, seed=number), split)
        for number, (prompt, images, split) in enumerate(CASES)
    ]

    def answer_each_alone() -> dict[str, list[int]]:
        tokens: dict[str, list[int]] = {}
        for request in requests:
            bfloat16_engine.images.clear()
            bfloat16_engine.prefixes.clear()
            tokens |= run_tokens(bfloat16_engine, request)
        return tokens

    assert bfloat16_engine.runner.cache.keys[0].dtype == torch.bfloat16
    assert answer_each_alone() == answer_each_alone()


def test_image_markers_are_never_generated(engine: Engine) -> None:
    sampling = SamplingParams(max_new_tokens=200, min_new_tokens=200, temperature=10.0, top_p=1.0, seed=1)
    generated = run_tokens(engine, Request("wild", "Hello", (BLACK,), sampling))["wild"]
    markers = engine.processor.tokenizer.convert_tokens_to_ids(["<image>", "<fake_token_around_image>"])
    assert len(generated) == 200
    assert not set(generated) & set(markers)


def break_requests(engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str, *names: str) -> None:
    """Let the model fail, in its own way, whenever one of `names` is to make its third token."""
    forward = engine.runner.forward

    def break_some(decoding: list[Any], reading: list[Any]) -> torch.Tensor:
        logits = forward(decoding, reading).clone()
        broken = [n for n, s in enumerate(decoding) if s.request_id in names and s.num_generated_tokens >= 2]
        if broken and how == "raises":
            raise RuntimeError("what a kernel might say")
        if broken and how == "lacks memory":
            raise torch.OutOfMemoryError("there is none left")
        logits[broken] = float("nan")
        return logits

    monkeypatch.setattr(engine.runner, "forward", break_some)


@pytest.mark.parametrize("how", ["raises", "lacks memory", "is not a number"])
def test_a_request_that_breaks_a_step_fails_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    requests = [Request(f"{n}", *case[:2], GREEDY, case[2]) for n, case in enumerate(CASES)]
    alone = {request.request_id: run(engine, request)[request.request_id] for request in requests}
    broken = [replace(requests[0], request_id=name) for name in ("broken", "broken too")]
    break_requests(engine, monkeypatch, how, "broken", "broken too")
    events = run(engine, broken[0], *requests, broken[1])
    for name in ("broken", "broken too"):
        last = events.pop(name)[-1]
        assert isinstance(last, Failed)
        assert last.reason == "INTERNAL_ERROR"
    assert events == alone
    assert run(engine, requests[0])["0"] == alone["0"]
    check_nothing_is_left(engine)


def test_the_log_names_the_request_that_failed_and_says_nothing_of_what_it_holds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = make_name("broken", PARAMETERS), make_name("good", PARAMETERS)
    break_requests(engine, monkeypatch, "raises", broken)
    run(engine, Request(broken, *CASES[0][:2], GREEDY), Request(good, *CASES[0][:2], GREEDY))
    told = [(record.getMessage(), vars(record).get("request_id")) for record in caplog.records]
    assert told == [
        ("a step of 2 requests failed; each is tried alone", None),
        ("a request failed alone", "broken"),
        ("a request failed: the engine failed in a step", "broken"),
    ]
    assert {vars(record).get("trace_id") for record in caplog.records[1:]} == {TRACE_ID}
    lines = "".join(map(Lines().format, caplog.records))
    assert CASES[0][0] not in lines


@pytest.mark.parametrize("num_failures", [1, 2])
def test_a_lack_of_memory_as_a_request_begins_ends_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, num_failures: int
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")
    requests = [Request(f"{n}", *case[:2], GREEDY, case[2]) for n, case in enumerate(CASES[:3])]
    alone = {request.request_id: run(engine, request)[request.request_id] for request in requests}
    begin, calls = engine.sampler.begin, iter(range(100))

    def lack_memory(slot: int, token_ids: list[int]) -> None:
        if 1 <= next(calls) <= num_failures:  # of the second request
            raise torch.OutOfMemoryError("there is none left")
        begin(slot, token_ids)

    monkeypatch.setattr(engine.sampler, "begin", lack_memory)
    events = run(engine, *requests)
    if num_failures > 1:  # also after room was made
        last = events.pop("1")[-1]
        assert isinstance(last, Failed)
        assert last.reason == "INTERNAL_ERROR"
        del alone["1"]
    assert events == alone
    check_nothing_is_left(engine)


def spoil_requests(engine: Engine, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let whatever is read of `names` leave keys and values that are not numbers, and such logits."""
    forward, cache = engine.runner.forward, engine.runner.cache

    def spoil_some(decoding: list[Any], reading: list[Any]) -> torch.Tensor:
        logits = forward(decoding, reading).clone()
        members = [*((sequence, 1) for sequence in decoding), *reading]
        for number, (sequence, count) in enumerate(members):
            if sequence.request_id in names:
                begin = sequence.num_read_tokens
                written = cache.read(sequence.slot, begin, begin + count)
                cache.write(sequence.slot, begin, written * float("nan"))
                logits[number] = float("nan")
        return logits

    monkeypatch.setattr(engine.runner, "forward", spoil_some)


def is_clean(engine: Engine) -> bool:
    """Tell whether all slots hold numbers."""
    cache = engine.runner.cache
    return all(cache.read(slot, 0, cache.max_tokens).isfinite().all() for slot in range(cache.num_slots))


@pytest.mark.parametrize("leaving", ["fails", "is cancelled in its prompt", "moves and is cancelled"])
def test_what_is_not_a_number_in_a_slot_goes_with_who_made_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, leaving: str
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 512 if leaving == "fails" else 40)
    good = [Request(f"{n}", *CASES[n][:2], GREEDY, CASES[n][2]) for n in (0, 4, 7)]
    alone = {request.request_id: run(engine, request)[request.request_id] for request in good}
    bad = [Request(name, *CASES[0][:2], GREEDY) for name in ("bad", "worse")]
    engine.prefixes.clear()
    with monkeypatch.context() as patch:
        spoil_requests(engine, patch, "bad", "worse")
        for request in bad:
            engine.add(engine.processor.prepare(request))
        list(engine.step())
        if leaving == "fails":
            assert engine.is_idle
        else:
            assert [sequence.is_decoding for sequence in engine.scheduler.running] == [False, False]
            for name in ("worse", "bad") if leaving == "is cancelled in its prompt" else ("bad", "worse"):
                assert engine.cancel(name)
    assert is_clean(engine)
    assert run(engine, *good) == alone
    assert is_clean(engine)


def test_what_was_seen_wrongly_in_an_image_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    request = Request("one", "Describe the image.", (red_circle(),), GREEDY)
    look = engine.runner.look
    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "look", lambda crops: look(crops) * float("nan"))
        assert isinstance(run(engine, request)["one"][-1], Failed)
    check_nothing_is_left(engine)
    assert text_of(run(engine, request)["one"]) == "A red circle on a white background."


def test_a_request_whose_text_cannot_be_made_fails_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    good, bad = (Request(name, "Describe the image.", (red_circle(),), GREEDY) for name in ("good", "bad"))
    expected = run(engine, good)["good"]
    for request in (bad, good):
        engine.add(engine.processor.prepare(request))
    monkeypatch.setattr(engine.scheduler.waiting[0].detokenizer, "_decode", lambda _: 1 / 0)
    events: dict[str, list[Any]] = {"bad": [], "good": []}
    while not engine.is_idle:
        for name, event in engine.step():
            events[name].append(event)
    assert events["bad"][-1] == Failed("INTERNAL_ERROR", "the engine failed at a token")
    assert events["good"] == expected
    check_nothing_is_left(engine)


def test_an_image_that_breaks_the_vision_tower_costs_those_alone_who_show_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    encode_crops = engine.runner.encode

    def break_one(spans: list[Any]) -> None:
        if any(span.crop.grid[0] > span.crop.grid[1] for span in spans):
            raise RuntimeError("what a kernel might say")
        encode_crops(spans)

    monkeypatch.setattr(engine.runner, "encode", break_one)
    good = [Request(f"good {n}", "Describe the image.", (red_circle(),), GREEDY) for n in range(2)]
    bad = [Request(f"bad {n}", "Describe the image.", (red_circle(), TALL), GREEDY) for n in range(2)]
    events = run(engine, good[0], bad[0], good[1], bad[1])
    for n in range(2):
        assert isinstance(events[f"bad {n}"][-1], Failed)
        assert text_of(events[f"good {n}"]) == "A red circle on a white background."
    check_nothing_is_left(engine)


def test_an_engine_in_which_nothing_works_any_more_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine.runner, "forward", fail)
    for number in range(MAX_BROKEN_STEPS):
        engine.add(engine.processor.prepare(Request(f"{number}", "Hello", (BLACK,), GREEDY)))
        steps = engine.step()
        assert next(steps) == (f"{number}", StageEntered("PREFILL"))
        assert isinstance(next(steps)[1], Failed)
        if number < MAX_BROKEN_STEPS - 1:
            assert list(steps) == []
    with pytest.raises(EngineFault):
        next(steps)
    assert engine.is_idle
    monkeypatch.undo()
    run(engine, Request("after", "Hello", (BLACK,), GREEDY))


def test_an_engine_that_can_look_at_no_picture_any_more_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine.runner, "look", fail)
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 20)  # so that some steps only read
    asked = [Request(f"{n}", "Hello", (draw_another(n),), GREEDY) for n in range(MAX_BROKEN_STEPS)]
    for request in asked[:-1]:
        assert isinstance(run(engine, request)[request.request_id][-1], Failed)
    engine.add(engine.processor.prepare(asked[-1]))
    with pytest.raises(EngineFault):
        list(engine.step())
    assert engine.is_idle
    monkeypatch.undo()
    run(engine, Request("after", "Hello", (BLACK,), GREEDY))


def break_tall_pictures(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the model fail at each picture that is higher than wide."""
    encode_crops = engine.runner.encode

    def break_some(spans: list[Any]) -> None:
        if any(span.crop.grid[0] > span.crop.grid[1] for span in spans):
            raise error
        encode_crops(spans)

    monkeypatch.setattr(engine.runner, "encode", break_some)


def draw_tall(number: int) -> bytes:
    """Draw a picture that is higher than wide, and no other number's."""
    return encode(draw_red_circle((60, 180 + number)))


def test_pictures_that_are_too_large_for_the_memory_say_nothing_of_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    break_tall_pictures(engine, monkeypatch, torch.OutOfMemoryError("there is none left"))
    for number in range(MAX_BROKEN_STEPS + 1):
        request = Request("large", "Hello", (draw_tall(number),), GREEDY)
        assert run(engine, request)["large"] == [
            StageEntered("PREFILL"),
            Failed("INTERNAL_ERROR", "the engine failed at an image"),
        ]
    assert isinstance(run(engine, Request("after", "Hello", (BLACK,), GREEDY))["after"][-1], Finished)


def test_pictures_that_fail_beside_a_prompt_that_is_read_say_nothing_of_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    break_tall_pictures(engine, monkeypatch, RuntimeError("what a kernel might say"))
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 64)
    long = Request("long", "What is this? " * 200, (BLACK,), GREEDY)
    engine.add(engine.processor.prepare(long))
    (sequence,) = engine.scheduler.waiting
    list(engine.step())
    bad = [Request(f"{n}", "Hello", (draw_tall(n),), GREEDY) for n in range(MAX_BROKEN_STEPS + 1)]
    sequence.number = len(bad) + 1  # it reads what the others leave
    for number, request in enumerate(bad):
        engine.add(engine.processor.prepare(request))
        engine.scheduler.waiting[-1].number = number
        failed = [event for name, event in engine.step() if name == request.request_id]
        assert isinstance(failed[-1], Failed)
        assert not sequence.is_decoding
    events = []
    while not engine.is_idle:
        events += [event for _, event in engine.step()]
    assert isinstance(events[-1], Finished)


def test_half_a_character_at_the_end_can_complete_a_stop_string(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    half: int = engine.processor.tokenizer.convert_tokens_to_ids("<0xE2>")
    monkeypatch.setattr(engine.sampler, "choose", lambda _, rows: [half] * len(rows))
    sampling = SamplingParams(max_new_tokens=2, stop=("\ufffd\ufffd",))
    events = run(engine, Request("one", "Hello", (BLACK,), sampling))["one"]
    assert text_of(events) == ""
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "STOP_STRING"


def test_a_failed_step_holds_nothing_any_more_when_its_requests_are_tried_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    forward, made, is_held = engine.runner.forward, list[weakref.ref[torch.Tensor]](), list[bool]()

    def lack_memory_once(decoding: list[Any], reading: list[Any]) -> torch.Tensor:
        if not made:
            half_done = torch.zeros(3)
            made.append(weakref.ref(half_done))
            raise torch.OutOfMemoryError("there is none left")
        is_held.append(made[0]() is not None)
        return forward(decoding, reading)

    monkeypatch.setattr(engine.runner, "forward", lack_memory_once)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: is_held.append(made[0]() is not None))
    run(engine, Request("one", "Hello", (BLACK,), GREEDY))
    assert not any(is_held)
    assert is_held


def test_a_cancelled_request_says_nothing_more_and_leaves_nothing(engine: Engine) -> None:
    sampling = SamplingParams(max_new_tokens=500, min_new_tokens=500)
    for name in ("first", "second"):
        engine.add(engine.processor.prepare(Request(name, "Hello", (BLACK,), sampling)))
    list(engine.step())
    assert engine.cancel("first")
    assert {request_id for request_id, _ in engine.step()} == {"second"}
    assert engine.cancel("second")
    assert not engine.cancel("second")
    check_nothing_is_left(engine)


def test_a_request_can_leave_in_every_stage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 20)
    prompt, images, split = CASES[-1]
    request = Request("leaves", prompt, images, replace(GREEDY, min_new_tokens=5, max_new_tokens=5), split)
    stays = Request("stays", "Describe the image.", (red_circle(),), replace(GREEDY, min_new_tokens=24))
    expected = run(engine, stays)["stays"]
    num_steps = 0
    while num_steps < 200:
        engine.images.clear()
        engine.prefixes.clear()
        engine.add(engine.processor.prepare(request))
        engine.add(engine.processor.prepare(stays))
        events = [event for _ in range(num_steps) for name, event in engine.step() if name == "stays"]
        was_there = engine.cancel("leaves")
        while not engine.is_idle:
            events += [event for name, event in engine.step() if name == "stays"]
        assert events == expected, num_steps
        check_nothing_is_left(engine)
        if not was_there:
            break
        num_steps += 2
    assert num_steps > 20  # it did leave in the midst of its prompt and its answer


def test_every_request_has_one_last_event_that_counts_its_tokens(engine: Engine) -> None:
    request = Request("one", "Describe the image.", (red_circle(),), GREEDY)
    events = run(engine, request)["one"]
    assert [is_last(event) for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1] == Finished(
        "END_OF_TURN", NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, len(RED_CIRCLE_PIECES) + 1
    )


def test_an_answer_tells_how_long_each_stage_took_and_what_was_known(engine: Engine) -> None:
    request = Request("one", "Describe the image.", (red_circle(),), GREEDY)
    (first,), (again,) = ([run(engine, request)["one"][-1]] for _ in range(2))
    assert isinstance(first, Finished)
    assert isinstance(again, Finished)
    assert (first.num_cached_images, first.num_cached_tokens) == (0, 0)
    assert (again.num_cached_images, again.num_cached_tokens) == (1, (NUM_PROMPT_TOKENS - 1) // 16 * 16)
    assert set(first.seconds) == {"preprocess", "queue", "vision", "prefill", "decode"}
    assert set(again.seconds) == {"preprocess", "queue", "prefill", "decode"}
    assert all(seconds > 0 for seconds in first.seconds.values())


@pytest.mark.parametrize("scope", CACHE_SCOPES)
def test_caches_are_for_all_or_only_for_the_share_that_filled_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setattr(engine.processor, "_config", replace(engine.processor._config, cache_scope=scope))
    known = []
    for share in ("anna", "bert", "anna", "\ud800"):
        last = run(engine, Request("one", "Describe the image.", (red_circle(),), GREEDY, share=share))[
            "one"
        ][-1]
        assert isinstance(last, Finished)
        known.append((last.num_cached_images > 0, last.num_cached_tokens > 0))
    for_others = (scope == "all",) * 2
    assert known == [(False, False), for_others, (True, True), for_others]


def test_more_requests_than_slots_are_answered_in_their_order(engine: Engine) -> None:
    num_slots = engine.runner.memory.num_slots
    sampling = replace(GREEDY, max_new_tokens=2, min_new_tokens=2)
    requests = [Request(f"{n}", "Hello", (BLACK,), sampling) for n in range(2 * num_slots + 3)]
    for request in requests:
        engine.add(engine.processor.prepare(request))
    begun = []
    while not engine.is_idle:
        assert len(engine.scheduler.running) <= num_slots
        begun += [request_id for request_id, event in engine.step() if event == StageEntered("PREFILL")]
    assert begun == [request.request_id for request in requests]
    check_nothing_is_left(engine)


def test_counting_by_sizes_equals_what_is_prepared(engine: Engine, reference: Reference) -> None:
    for size in [(200, 150), (8, 8), (1, 1), (290, 97), (60, 180), (4000, 3000), (2000, 1)]:
        for split in (False, True):
            request = Request("one", "Hello", (encode(Image.new("RGB", size)),), split_images=split)
            prepared = engine.processor.prepare(request)
            count = engine.processor.count("Hello", [size], split_images=split)
            assert count.num_prompt_tokens == prepared.num_prompt_tokens, (size, split)
            assert count.num_image_tokens == prepared.num_image_tokens
            assert count.num_image_patches == sum(len(span.crop.patches) for span in prepared.spans)
            theirs = reference.prepare(request)
            patch = engine.runner.patch_size
            mask = theirs["pixel_attention_mask"][0].unfold(1, patch, patch).unfold(2, patch, patch)
            assert count.num_image_patches == int(mask.flatten(-2).all(-1).sum()), (size, split)


def test_markers_of_the_template_are_refused_in_a_prompt(engine: Engine) -> None:
    for marker in ("<image>", "<fake_token_around_image>", "<end_of_utterance>"):
        with pytest.raises(InvalidRequest) as caught:
            engine.processor.prepare(Request("one", f"a {marker} b", (BLACK,)))
        assert caught.value.reason == "PROMPT_HAS_SPECIAL_TOKEN"


def test_a_context_that_is_passed_is_told_with_what_would_have_been_in_it(engine: Engine) -> None:
    most = engine.runner.max_context_tokens
    request = Request("one", "Hello", (BLACK,), SamplingParams(max_new_tokens=most))
    num_prompt_tokens = engine.processor.count("Hello", [(8, 8)], split_images=None).num_prompt_tokens
    with pytest.raises(InvalidRequest) as caught:
        engine.processor.prepare(request)
    failed = Failed.of(caught.value)
    assert (failed.reason, failed.field) == ("CONTEXT_EXCEEDED", "prompt")
    assert (failed.bound, failed.value) == (str(most), str(num_prompt_tokens + most))

"""The engine says what transformers says, to each request alone, whoever else is there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from idefics2_engine.errors import InvalidRequest
from idefics2_engine.requests import Failed, Finished, Request, SamplingParams, TextDelta, is_last
from idefics2_engine.sampler import Sampler
from pictures import (
    NUM_IMAGE_TOKENS,
    NUM_PROMPT_TOKENS,
    RED_CIRCLE_PIECES,
    draw_red_circle,
    encode,
    red_circle,
)
from PIL import Image
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event

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
]


def run(engine: Engine, *requests: Request) -> dict[str, list[Event]]:
    """Answer requests that all arrive before the first step."""
    for request in requests:
        engine.add(engine.processor.prepare(request))
    events: dict[str, list[Event]] = {request.request_id: [] for request in requests}
    while not engine.is_idle:
        for request_id, event in engine.step():
            events[request_id].append(event)
    return events


def text_of(events: list[Event]) -> str:
    """Join the deltas."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def generate_with_transformers(engine: Engine, request: Request, **options: Any) -> str:
    """Answer by transformers' own generate."""
    prepared = engine.processor.prepare(request)
    with torch.inference_mode():
        output = engine.runner.model.generate(
            input_ids=prepared.input_ids,
            attention_mask=torch.ones_like(prepared.input_ids),
            pixel_values=prepared.pixel_values,
            pixel_attention_mask=prepared.pixel_attention_mask,
            do_sample=False,
            max_new_tokens=request.sampling.max_new_tokens,
            **options,
        )
    text = engine.processor.tokenizer.decode(
        output[0, prepared.num_prompt_tokens :], skip_special_tokens=True
    )
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_greedy_answers_equal_transformers_generate(engine: Engine, case: int, penalty: float) -> None:
    prompt, images, split = CASES[case]
    sampling = SamplingParams(max_new_tokens=24, repetition_penalty=penalty, temperature=0.0)
    request = Request("one", prompt, images, sampling, split)
    expected = generate_with_transformers(engine, request, repetition_penalty=penalty)
    assert text_of(run(engine, request)["one"]) == expected


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


def test_scores_equal_transformers_processors_in_their_order() -> None:
    torch.manual_seed(0)
    logits, token_ids = torch.randn(1, 771) * 5, torch.randint(0, 771, (1, 40))
    params = SamplingParams(repetition_penalty=1.3, temperature=0.7, top_k=50, top_p=0.9)
    expected = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(50),
            TopPLogitsWarper(0.9),
        ]
    )(token_ids, logits)
    scores = Sampler(params, 40, None, [2]).process(logits, token_ids)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_sampling_follows_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -50.0]])
    counts = [0, 0, 0, 0]
    for seed in range(3000):
        params = SamplingParams(repetition_penalty=1.0, temperature=1.0, top_p=1.0, seed=seed)
        counts[Sampler(params, 1, None, [3]).sample(logits, torch.tensor([[0]]))] += 1
    shares = torch.tensor(counts) / 3000
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=0.04, rtol=0)


def test_image_markers_are_never_generated(engine: Engine) -> None:
    sampling = SamplingParams(max_new_tokens=200, min_new_tokens=200, temperature=10.0, top_p=1.0, seed=1)
    prepared = engine.processor.prepare(Request("wild", "Hello", (BLACK,), sampling))
    engine.add(prepared)
    sequence = engine.scheduler.waiting[0]
    while not engine.is_idle:
        list(engine.step())
    generated = sequence.token_ids[0, prepared.num_prompt_tokens :].tolist()
    markers = engine.processor.tokenizer.convert_tokens_to_ids(["<image>", "<fake_token_around_image>"])
    assert len(generated) == 200
    assert not set(generated) & set(markers)


def test_a_request_that_breaks_a_step_fails_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = engine.runner.forward

    def break_one(sequence: Any) -> torch.Tensor:
        logits = forward(sequence)
        is_broken = sequence.request_id == "broken" and sequence.num_generated_tokens == 2
        return logits * float("nan") if is_broken else logits

    monkeypatch.setattr(engine.runner, "forward", break_one)
    requests = [
        Request(name, "Describe the image.", (red_circle(),), GREEDY) for name in ("a", "broken", "b")
    ]
    events = run(engine, *requests)
    assert isinstance(events["broken"][-1], Failed)
    assert text_of(events["a"]) == text_of(events["b"]) == "A red circle on a white background."


def test_a_cancelled_request_says_nothing_more_and_leaves_nothing(engine: Engine) -> None:
    sampling = SamplingParams(max_new_tokens=500, min_new_tokens=500)
    for name in ("first", "second"):
        engine.add(engine.processor.prepare(Request(name, "Hello", (BLACK,), sampling)))
    list(engine.step())
    assert engine.cancel("first")
    assert {request_id for request_id, _ in engine.step()} == {"second"}
    assert engine.cancel("second")
    assert engine.is_idle
    assert not engine.cancel("second")


def test_every_request_has_one_last_event_that_counts_its_tokens(engine: Engine) -> None:
    request = Request("one", "Describe the image.", (red_circle(),), GREEDY)
    events = run(engine, request)["one"]
    assert [is_last(event) for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1] == Finished(
        "END_OF_TURN", NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, len(RED_CIRCLE_PIECES) + 1
    )


def test_counting_by_sizes_equals_what_is_prepared(engine: Engine) -> None:
    for size in [(200, 150), (8, 8), (1, 1), (290, 97), (60, 180), (4000, 3000), (2000, 1)]:
        for split in (False, True):
            request = Request("one", "Hello", (encode(Image.new("RGB", size)),), split_images=split)
            prepared = engine.processor.prepare(request)
            count = engine.processor.count("Hello", [size], split_images=split)
            assert count.num_prompt_tokens == prepared.num_prompt_tokens, (size, split)
            assert count.num_image_tokens == prepared.num_image_tokens
            patch = engine.runner.patch_size
            mask = prepared.pixel_attention_mask[0].unfold(1, patch, patch).unfold(2, patch, patch)
            assert count.num_image_patches == int(mask.flatten(-2).all(-1).sum()), (size, split)


def test_markers_of_the_template_are_refused_in_a_prompt(engine: Engine) -> None:
    for marker in ("<image>", "<fake_token_around_image>", "<end_of_utterance>"):
        with pytest.raises(InvalidRequest) as caught:
            engine.processor.prepare(Request("one", f"a {marker} b", (BLACK,)))
        assert caught.value.reason == "PROMPT_HAS_SPECIAL_TOKEN"

"""What was read of a prompt is read again only as far as prompts are the same, images too."""

from __future__ import annotations

import itertools
import logging
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.answers import make_used_cache, run, run_tokens, text_of
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.prefix_cache import BLOCK_TOKENS, PrefixCache, make_keys
from idefics2_engine.requests import Finished, Request, SamplingParams
from idefics2_engine.scheduler import BLOCKS_PER_TOKEN
from pictures import draw_red_circle, encode, red_circle
from PIL import Image

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.scheduler import Plan, TakeOver

SHAPE = KVShape(num_layers=2, num_heads=2, head_dim=4, dtype=torch.float32)
BLOCK_BYTES = BLOCK_TOKENS * SHAPE.bytes_per_token
NUM_SLOTS, MAX_TOKENS = 3, 160
HOUSE, TREE = b"a hash of a house", b"a hash of a tree"
GREEDY = SamplingParams(max_new_tokens=16, repetition_penalty=1.0, temperature=0.0)
WILD = SamplingParams(max_new_tokens=16, min_new_tokens=8, temperature=2.0, top_p=1.0, seed=5)
GREEN = encode(Image.new("RGB", (200, 150), "green"))
WIDE = encode(draw_red_circle((290, 97)))
QUESTIONS = ("Describe the image.", "What color is the background?", "What color is it? " * 12, "red", "?")


@pytest.fixture
def slots() -> KVCache:
    """Slots that hold what some prompts left."""
    return make_used_cache(SHAPE, NUM_SLOTS, MAX_TOKENS)


def name_blocks(prompt: str) -> list[bytes]:
    """Make keys of a prompt of one letter a block, as make_keys chains them."""
    return [prompt[: end + 1].encode() for end in range(len(prompt))]


def count_blocks(cache: PrefixCache, prompt: str) -> int:
    """Count the blocks of a prompt, from its first, that are known."""
    return sum(1 for _ in itertools.takewhile(cache._blocks.__contains__, name_blocks(prompt)))


def test_equal_prompts_with_equal_images_have_equal_keys() -> None:
    token_ids = list(range(100))
    keys = make_keys(token_ids, [(3, HOUSE), (50, TREE)])
    assert make_keys(list(token_ids), [(50, TREE), (3, HOUSE)]) == keys
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("num_tokens", range(1, 70))
def test_there_is_a_key_for_each_full_block_but_never_for_the_last_token(num_tokens: int) -> None:
    keys = make_keys([7] * num_tokens, [])
    assert len(keys) == (num_tokens - 1) // BLOCK_TOKENS
    assert len(keys) * BLOCK_TOKENS < num_tokens


@pytest.mark.parametrize("place", [0, 1, 15, 16, 31, 32, 79, 95])
def test_another_token_changes_the_keys_from_its_block_on_and_no_other(place: int) -> None:
    token_ids = [7] * 97
    other = [*token_ids[:place], 8, *token_ids[place + 1 :]]
    same = [a == b for a, b in zip(make_keys(token_ids, []), make_keys(other, []), strict=True)]
    assert same == [block < place // BLOCK_TOKENS for block in range(6)]


@pytest.mark.parametrize("place", [0, 1, 15, 16, 40, 79])
@pytest.mark.parametrize("change", ["another image", "no image", "another place", "one more"])
def test_another_image_changes_the_keys_from_its_block_on_and_no_other(place: int, change: str) -> None:
    images = {
        "another image": [(place, TREE)],
        "no image": [],
        "another place": [(place + 1, HOUSE)],
        "one more": [(place, HOUSE), (place + 1, HOUSE)],
    }[change]
    keys = make_keys([7] * 97, [(place, HOUSE)])
    same = [a == b for a, b in zip(keys, make_keys([7] * 97, images), strict=True)]
    last = place if change != "one more" else place + 1  # where both begin to differ
    assert same == [block < last // BLOCK_TOKENS for block in range(6)]


def test_images_that_change_places_change_the_keys() -> None:
    keys = make_keys([7] * 97, [(20, HOUSE), (60, TREE)])
    swapped = make_keys([7] * 97, [(20, TREE), (60, HOUSE)])
    assert [a == b for a, b in zip(keys, swapped, strict=True)] == [True, *[False] * 5]


def test_what_is_loaded_is_what_was_stored_and_nothing_else_is_written(slots: KVCache) -> None:
    cache, keys = PrefixCache(100 * BLOCK_BYTES), name_blocks("abcde")
    stored = slots.read(0, 0, 80).clone()
    expected = slots.read(2, 0, MAX_TOKENS).clone()
    expected[:, :, :, :80] = stored
    others = slots.read(1, 0, MAX_TOKENS).clone()
    cache.store(keys, slots, 0)
    slots.clear(0, MAX_TOKENS)  # its owner leaves, another comes
    assert cache.load(keys, slots, 2) == 5
    assert torch.equal(slots.read(2, 0, MAX_TOKENS), expected)
    assert torch.equal(slots.read(1, 0, MAX_TOKENS), others)


def test_only_what_two_prompts_begin_with_is_loaded(slots: KVCache) -> None:
    cache = PrefixCache(100 * BLOCK_BYTES)
    cache.store(name_blocks("abcde"), slots, 0)
    expected = slots.read(2, 0, MAX_TOKENS).clone()
    expected[:, :, :, :32] = slots.read(0, 0, 32)
    assert cache.load(name_blocks("abxde"), slots, 2) == 2
    assert torch.equal(slots.read(2, 0, MAX_TOKENS), expected)
    assert cache.load(name_blocks("xbcde"), slots, 2) == 0
    assert cache.load([], slots, 2) == 0
    assert torch.equal(slots.read(2, 0, MAX_TOKENS), expected)


def test_only_what_comes_after_the_blocks_that_are_there_is_loaded(slots: KVCache) -> None:
    cache = PrefixCache(100 * BLOCK_BYTES)
    cache.store(name_blocks("abcde"), slots, 0)
    expected = slots.read(2, 0, MAX_TOKENS).clone()
    expected[:, :, :, 32:64] = slots.read(0, 32, 64)
    assert cache.load(name_blocks("abcd"), slots, 2, 2) == 2
    assert cache.load(name_blocks("abcd"), slots, 2, 4) == 0
    assert cache.load(name_blocks("abxde"), slots, 2, 2) == 0
    assert torch.equal(slots.read(2, 0, MAX_TOKENS), expected)


def test_what_is_known_is_not_stored_again(slots: KVCache) -> None:
    cache = PrefixCache(100 * BLOCK_BYTES)
    first = slots.read(0, 0, 16).clone()
    cache.store(name_blocks("abc"), slots, 0)
    cache.store(name_blocks("axyz"), slots, 1)
    assert (len(cache), cache.num_bytes) == (6, 6 * BLOCK_BYTES)
    cache.load(name_blocks("a"), slots, 2)
    assert torch.equal(slots.read(2, 0, 16), first)


def test_the_ends_of_prompts_that_were_used_longest_ago_make_room(slots: KVCache) -> None:
    cache = PrefixCache(6 * BLOCK_BYTES)
    cache.store(name_blocks("abcd"), slots, 0)
    cache.store(name_blocks("xyz"), slots, 1)
    assert [count_blocks(cache, prompt) for prompt in ("abcd", "xyz")] == [3, 3]
    cache.load(name_blocks("abcd"), slots, 2)
    cache.store(name_blocks("12"), slots, 1)
    assert [count_blocks(cache, prompt) for prompt in ("abcd", "xyz", "12")] == [3, 1, 2]
    assert cache.num_bytes == 6 * BLOCK_BYTES


def test_of_a_prompt_longer_than_all_the_room_the_beginning_is_kept(slots: KVCache) -> None:
    cache = PrefixCache(3 * BLOCK_BYTES)
    cache.store(name_blocks("abcdefgh"), slots, 0)
    assert count_blocks(cache, "abcdefgh") == len(cache) == 3


def test_room_is_made_before_it_is_taken(slots: KVCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PrefixCache(6 * BLOCK_BYTES)
    read, held = slots.read, []

    def read_and_look(slot: int, start: int, end: int) -> torch.Tensor:
        held.append(cache.num_bytes)
        return read(slot, start, end)

    cache.store(name_blocks("abcde"), slots, 0)
    monkeypatch.setattr(slots, "read", read_and_look)
    cache.store(name_blocks("abxyz"), slots, 1)
    cache.store(name_blocks("123456789"), slots, 2)
    assert len(held) == 2 + 3 + 6  # each looks at a block's size first
    assert max(held[1:4] + held[5:]) <= 5 * BLOCK_BYTES
    assert [count_blocks(cache, prompt) for prompt in ("abcde", "abxyz", "123456789")] == [0, 0, 6]


def test_a_prompt_that_there_is_no_memory_to_keep_is_answered_all_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("one", "Describe the image.", (red_circle(),), GREEDY)
    expected = run(engine, request)
    forget(engine)
    run(engine, replace(request, request_id="known", prompt="Something else"))
    assert len(engine.prefixes)

    def lack(*_: object) -> None:
        raise torch.OutOfMemoryError("there is none left")

    monkeypatch.setattr(engine.prefixes, "store", lack)
    assert run(engine, request) == expected
    assert not len(engine.prefixes)  # what was kept makes room


def test_where_no_block_fits_none_is_kept(slots: KVCache) -> None:
    cache = PrefixCache(BLOCK_BYTES - 1)
    cache.store(name_blocks("abc"), slots, 0)
    assert (len(cache), cache.num_bytes) == (0, 0)
    assert cache.load(name_blocks("abc"), slots, 2) == 0


def test_what_is_forgotten_is_not_known(slots: KVCache) -> None:
    cache = PrefixCache(3 * BLOCK_BYTES)
    cache.store(name_blocks("abc"), slots, 0)
    cache.clear()
    assert (len(cache), cache.num_bytes, count_blocks(cache, "abc")) == (0, 0, 0)


def test_whatever_comes_bytes_are_counted_right_and_no_block_is_kept_without_those_before_it(
    slots: KVCache,
) -> None:
    draw = random.Random(3)  # noqa: S311  # not a secret
    cache = PrefixCache(20 * BLOCK_BYTES + 7)
    for _ in range(1500):
        prompt = "".join(draw.choices("ab", k=draw.randint(0, 7)))
        use = draw.choice((cache.store, cache.load))
        use(name_blocks(prompt), slots, draw.randrange(NUM_SLOTS))
        kept = cache._blocks
        assert cache.num_bytes == sum(block.nbytes for block in kept.values()) <= 20 * BLOCK_BYTES
        assert all(key[:-1] in kept for key in kept if len(key) > 1)
    assert len(cache) == 20


def ask(name: str, *images: bytes, sampling: SamplingParams = GREEDY, split: bool = False) -> list[Request]:
    """Ask all questions about the same images."""
    return [
        Request(f"{name} {number}", question, images, sampling, split)
        for number, question in enumerate(QUESTIONS)
    ]


def forget(engine: Engine) -> None:
    """Let nothing be known."""
    engine.images.clear()
    engine.prefixes.clear()


def answer_alone(engine: Engine, requests: list[Request]) -> dict[str, list[int]]:
    """Answer each as if it were the first."""
    tokens = {}
    for request in requests:
        forget(engine)
        tokens.update(run_tokens(engine, request))
    forget(engine)
    return tokens


def count_cached(engine: Engine, request: Request) -> int:
    """Answer, and count the tokens of the prompt that were known."""
    last = run(engine, request)[request.request_id][-1]
    assert isinstance(last, Finished)
    return last.num_cached_tokens


@pytest.mark.parametrize("sampling", [GREEDY, WILD], ids=["greedy", "wild"])
@pytest.mark.parametrize("images_are_known", [True, False])
def test_answers_are_the_same_with_what_is_known_of_their_prompts(
    engine: Engine, sampling: SamplingParams, *, images_are_known: bool
) -> None:
    requests = [
        *ask("one", red_circle(), sampling=sampling),
        *ask("two", red_circle(), WIDE, sampling=sampling),
        *ask("split", WIDE, sampling=sampling, split=True),
    ]
    alone = answer_alone(engine, requests)
    for request in requests * 2:
        if not images_are_known:  # what is cut off in the midst of an image is looked at again
            engine.images.clear()
        assert run_tokens(engine, request)[request.request_id] == alone[request.request_id]
    assert all(count_cached(engine, request) >= 2 * BLOCK_TOKENS for request in requests)


def test_who_waits_for_his_turn_to_read_takes_over_what_another_has_read_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 40)  # one reads, and a part of the next
    first = ask("one", WIDE, split=True)[2]
    others = [replace(first, request_id=f"again {number}") for number in range(4)]
    different = ask("different", GREEN, split=True)[2]
    alone = answer_alone(engine, [first, different])
    events = run(engine, first, *others, different)
    lasts = {name: told[-1] for name, told in events.items()}
    cached = {name: last.num_cached_tokens for name, last in lasts.items() if isinstance(last, Finished)}
    assert cached.pop(first.request_id) == cached.pop(different.request_id) == 0
    known = BLOCK_TOKENS * len(make_keys(engine.processor.prepare(first).token_ids, []))
    part, *whole = sorted(cached.values())
    assert known - 40 < part < known  # read in the same step
    assert whole == [known] * 3
    forget(engine)
    tokens = run_tokens(engine, first, *others, different)
    assert tokens.pop(different.request_id) == alone[different.request_id]
    assert set(map(tuple, tokens.values())) == {tuple(alone[first.request_id])}


@pytest.mark.parametrize("is_known_before", [False, True])
def test_a_step_takes_over_and_reads_no_more_than_it_may_however_many_find_their_prompts_known(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, is_known_before: bool
) -> None:
    max_step_tokens = 24
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", max_step_tokens)
    first = replace(ask("one", WIDE, split=True)[2], sampling=replace(GREEDY, max_new_tokens=1))
    alike = [replace(first, request_id=f"{number}") for number in range(20)]
    num_blocks = len(engine.processor.prepare(first).prefix_keys)
    if is_known_before:
        run(engine, first)
    load, plan = engine.prefixes.load, engine.scheduler.plan
    taken: list[int] = []
    in_all: list[int] = []

    def count_blocks_taken(*arguments: Any) -> int:
        taken.append(load(*arguments))
        return taken[-1]

    def count_tokens(take_over: TakeOver) -> Plan:
        before = len(taken)
        made = plan(take_over)
        tokens = sum(count for _, count in made.reading)
        in_all.append(tokens + sum(math.ceil(blocks / BLOCKS_PER_TOKEN) for blocks in taken[before:]))
        return made

    monkeypatch.setattr(engine.prefixes, "load", count_blocks_taken)
    monkeypatch.setattr(engine.scheduler, "plan", count_tokens)
    run(engine, *alike)
    assert max(in_all) == max_step_tokens
    assert sum(taken) > 18 * num_blocks  # all but the first, and what was read in the same step


def test_who_cannot_take_over_what_is_known_reads_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")  # tracebacks hold what was there
    request = ask("one", red_circle())[2]
    expected = text_of(run(engine, request)["one 2"])

    def fail(*_: object) -> int:
        raise RuntimeError("what a kernel might say")

    monkeypatch.setattr(engine.prefixes, "load", fail)
    assert count_cached(engine, request) == 0
    assert text_of(run(engine, request)["one 2"]) == expected


def test_the_same_question_about_another_image_finds_nothing_known(engine: Engine) -> None:
    known, other = ask("known", red_circle())[2], ask("other", GREEN)[2]
    alone = answer_alone(engine, [other])
    run(engine, known)
    assert count_cached(engine, replace(known, request_id="again")) > 0
    assert run_tokens(engine, other) == alone
    engine.prefixes.clear()
    run(engine, known)
    assert count_cached(engine, other) == 0


def test_images_in_another_order_or_cut_otherwise_find_nothing_known(engine: Engine) -> None:
    run(engine, Request("known", QUESTIONS[0], (red_circle(), GREEN), GREEDY, split_images=False))
    assert count_cached(engine, Request("order", QUESTIONS[0], (GREEN, red_circle()), GREEDY)) == 0
    split = Request("split", QUESTIONS[0], (red_circle(), GREEN), GREEDY, split_images=True)
    assert count_cached(engine, split) == 0


def test_a_second_image_that_differs_leaves_what_stands_before_it_known(engine: Engine) -> None:
    run(engine, Request("known", QUESTIONS[0], (red_circle(), GREEN), GREEDY))
    other = Request("other", QUESTIONS[0], (red_circle(), WIDE), GREEDY)
    second = engine.processor.prepare(other).spans[1]
    assert count_cached(engine, other) == second.start // BLOCK_TOKENS * BLOCK_TOKENS > 0

"""Keys and values are read as they were written, and what is done to a slot is done to no other."""

from __future__ import annotations

import pytest
import torch
from engine.answers import make_used_cache
from idefics2_engine.kv_cache import KVCache, KVShape

SHAPE = KVShape(num_layers=3, num_heads=2, head_dim=4, dtype=torch.float32)
NUM_SLOTS, MAX_TOKENS = 4, 20


@pytest.fixture(params=[False, True], ids=["by head", "by token"])
def cache(request: pytest.FixtureRequest) -> KVCache:
    """One that is full of what nobody wrote."""
    return make_used_cache(SHAPE, NUM_SLOTS, MAX_TOKENS, by_token=request.param)


def read_all(cache: KVCache) -> torch.Tensor:
    """Copy everything: [num_slots, num_layers, 2, heads, max_tokens, head_dim]."""
    return torch.stack([cache.read(slot, 0, MAX_TOKENS) for slot in range(NUM_SLOTS)])


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_it_begins_with_zeros_of_the_size_that_its_shape_says(dtype: torch.dtype, *, by_token: bool) -> None:
    shape = KVShape(3, 2, 4, dtype)
    cache = KVCache(shape, NUM_SLOTS, MAX_TOKENS, torch.device("cpu"), by_token=by_token)
    parts = [*cache.keys, *cache.values]
    assert {part.shape for part in parts} == {(NUM_SLOTS, 2, MAX_TOKENS, 4)}
    assert {part.dtype for part in parts} == {dtype}
    assert sum(part.nbytes for part in parts) == NUM_SLOTS * MAX_TOKENS * shape.bytes_per_token
    assert not any(part.any() for part in parts)


def test_reading_shows_the_keys_and_values_of_each_layer(cache: KVCache) -> None:
    tokens = cache.read(2, 5, 9)
    for layer in range(SHAPE.num_layers):
        assert torch.equal(tokens[layer, 0], cache.keys[layer][2, :, 5:9])
        assert torch.equal(tokens[layer, 1], cache.values[layer][2, :, 5:9])


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, MAX_TOKENS), (5, 9), (MAX_TOKENS - 1, MAX_TOKENS)])
def test_what_is_written_is_read_and_nothing_else_changes(cache: KVCache, start: int, end: int) -> None:
    expected = read_all(cache)
    tokens = torch.randn(3, 2, 2, end - start, 4)
    expected[1, :, :, :, start:end] = tokens
    cache.write(1, start, tokens)
    assert torch.equal(cache.read(1, start, end), tokens)
    assert torch.equal(read_all(cache), expected)


@pytest.mark.parametrize("num_tokens", [0, 1, 7, MAX_TOKENS])
def test_moving_copies_the_first_tokens_and_nothing_else(cache: KVCache, num_tokens: int) -> None:
    expected = read_all(cache)
    expected[0, :, :, :, :num_tokens] = expected[3, :, :, :, :num_tokens]
    cache.move(3, 0, num_tokens)
    assert torch.equal(read_all(cache), expected)


@pytest.mark.parametrize("num_tokens", [0, 1, 7, MAX_TOKENS])
def test_clearing_leaves_zeros_even_where_there_was_no_number(cache: KVCache, num_tokens: int) -> None:
    expected = read_all(cache)
    expected[2, :, :, :, :num_tokens] = 0
    cache.write(2, 0, torch.full((3, 2, 2, num_tokens, 4), float("nan")))
    cache.clear(2, num_tokens)
    assert torch.equal(read_all(cache), expected)


def test_what_a_token_leaves_stands_in_one_row_where_it_is_kept_by_token() -> None:
    cache = make_used_cache(SHAPE, NUM_SLOTS, MAX_TOKENS, by_token=True)
    for layer in range(SHAPE.num_layers):
        assert cache.rows[layer].is_contiguous()
        row = cache.rows[layer][2 * MAX_TOKENS + 7]
        assert torch.equal(row, torch.cat([cache.keys[layer][2, :, 7], cache.values[layer][2, :, 7]]))

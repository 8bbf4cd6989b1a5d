"""The arithmetic of limits, on a clock that only a test moves."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from idefics2_service.errors import ConcurrencyExceeded, RateLimited
from idefics2_service.keys.quotas import Quotas, TokenBucket
from idefics2_service.keys.records import Key, Limits


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        """Begin anywhere."""
        self.now = 1_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def make_key(key_id: str = "anna", **limits: float) -> Key:
    """Make a key with limits."""
    return Key(
        id=key_id,
        hashes=("0" * 64,),
        created_at=datetime(2026, 11, 25, tzinfo=UTC),
        limits=Limits(**limits),  # type: ignore[arg-type]  # counts are given as such
    )


def call(quotas: Quotas, key: Key) -> None:
    """Make a call that ends at once."""
    with quotas.admit(key):
        pass


def test_a_burst_is_let_in_at_once_and_then_one_after_the_other() -> None:
    bucket = TokenBucket()
    assert [bucket.take(2, 3, 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(2, 3, 10.2) == pytest.approx(0.3)
    assert [bucket.take(2, 3, 10.5) for _ in range(2)] == [0, 0.5]


def test_who_is_refused_pays_nothing() -> None:
    bucket = TokenBucket()
    bucket.take(1, 1, 0)
    assert {bucket.take(1, 1, 0) for _ in range(100)} == {1}
    assert bucket.take(1, 1, 1) == 0


def test_no_more_than_a_burst_is_saved_up() -> None:
    bucket = TokenBucket()
    bucket.take(1, 2, 0)
    assert [bucket.take(1, 2, 1_000_000) for _ in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("per_second", [0.001, 0.3, 1 / 3, 7, 999.9, 10_000])
@pytest.mark.parametrize("burst", [1, 2, 10])
def test_who_comes_back_when_told_to_is_let_in_and_never_faster(per_second: float, burst: int) -> None:
    bucket, clock, taken = TokenBucket(), 123_456.789, 0
    begin = clock
    while taken < 200:
        wait = bucket.take(per_second, burst, clock)
        if wait:
            clock += wait
            assert bucket.take(per_second, burst, clock) == 0
        taken += 1
    assert taken <= burst + (clock - begin) * per_second * (1 + 1e-6) + 1


def test_limits_that_change_hold_from_then_on() -> None:
    quotas = Quotas(Clock())
    call(quotas, make_key(calls_per_second=1))
    with pytest.raises(RateLimited):
        call(quotas, make_key(calls_per_second=1))
    call(quotas, make_key(calls_per_second=1, burst=2))
    call(quotas, make_key())


@pytest.mark.parametrize("per_second", [0.001, 1, 10_000])
def test_at_another_rate_as_many_tokens_are_lacking_as_before(per_second: float) -> None:
    bucket = TokenBucket()
    for _ in range(1_000):
        assert bucket.take(0.01, 1_000, 0) == 0
    assert bucket.take(per_second, 1_000, 0) == pytest.approx(1 / per_second)
    now = 500 / per_second
    assert [bucket.take(per_second, 1_000, now) for _ in range(500)] == [0] * 500
    assert bucket.take(per_second, 1_000, now) == pytest.approx(1 / per_second)


@pytest.mark.parametrize("per_second", [0.01, 1])
def test_who_is_left_a_smaller_burst_waits_for_one_token_and_not_for_the_burst_before(
    per_second: float,
) -> None:
    bucket = TokenBucket()
    for _ in range(1_000):
        bucket.take(0.01, 1_000, 0)
    wait = bucket.take(per_second, 2, 0)
    assert wait == pytest.approx(1 / per_second)
    assert bucket.take(per_second, 2, wait) == 0


def test_a_fast_key_is_told_its_limit_and_the_time_to_come_back() -> None:
    quotas = Quotas(clock := Clock())
    key = make_key(calls_per_second=4, burst=1)
    call(quotas, key)
    with pytest.raises(RateLimited, match="4 calls a second, 1 at once") as caught:
        call(quotas, key)
    assert caught.value.retry_after_seconds == pytest.approx(0.25)
    assert caught.value.metadata == {"bound": "4 calls a second, 1 at once"}
    clock.now += 0.25
    call(quotas, key)


@pytest.mark.parametrize(("per_second", "burst"), [(0.5, 1), (1, 1), (2.5, 3)])
def test_a_burst_is_that_of_a_second_where_none_is_set(per_second: float, burst: int) -> None:
    assert Limits(calls_per_second=per_second).burst_calls == burst


def test_a_call_is_open_until_its_end_however_it_ends() -> None:
    quotas, key = Quotas(), make_key(max_concurrent=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(quotas.admit(key))
        with pytest.raises(
            ConcurrencyExceeded, match="2 calls of this key are open; max_concurrent allows 2"
        ):
            call(quotas, key)
    with pytest.raises(ZeroDivisionError), quotas.admit(key):
        raise ZeroDivisionError
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(quotas.admit(key))


def test_a_call_at_any_rate_is_open_as_others_are() -> None:
    quotas, key = Quotas(Clock()), make_key(calls_per_second=1, burst=1, max_concurrent=1)
    call(quotas, key)
    for _ in range(2):
        with quotas.open(key), pytest.raises(ConcurrencyExceeded), quotas.open(key):
            pass


def test_keys_do_not_use_up_each_others_limits() -> None:
    quotas = Quotas(Clock())
    anna, bert = (make_key(name, calls_per_second=1, max_concurrent=1) for name in ("anna", "bert"))
    with quotas.admit(anna), quotas.admit(bert):
        for key in (anna, bert):
            with pytest.raises(RateLimited):
                call(quotas, key)


def test_a_key_without_limits_is_never_refused() -> None:
    quotas, key = Quotas(Clock()), make_key()
    with ExitStack() as stack:
        for _ in range(10_000):
            stack.enter_context(quotas.admit(key))

"""What callers without a key may hold: their own part, whatever their number."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest
from idefics2_service.budget import Budget
from idefics2_service.errors import MemoryFull
from idefics2_service.gate import Gate
from idefics2_service.keys.quotas import Quotas
from idefics2_service.keys.ring import KeyRing
from idefics2_service.metrics import Metrics
from idefics2_service.shares import Shares

MEGABYTE = 2**20
HELD = "idefics2_held_bytes"


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of the gate alone."""
    return Metrics()


@pytest.fixture
def gate(metrics: Metrics) -> Gate:
    """A gate with 160 MB for keys."""
    return Gate(KeyRing(), Quotas(), Shares(4), Budget(160 * MEGABYTE), metrics, app_id="app")


def test_however_many_call_without_a_key_they_take_none_of_the_bytes_of_keys(
    gate: Gate, metrics: Metrics
) -> None:
    with ExitStack() as held:
        for number in range(100):
            with suppress(MemoryFull):
                while True:
                    held.enter_context(gate.hold_for_stranger(f"192.0.2.{number}", MEGABYTE))
        assert metrics.registry.get_sample_value(HELD) == 10 * MEGABYTE
        held.enter_context(gate.hold("anna", 80 * MEGABYTE))
        with pytest.raises(MemoryFull):
            held.enter_context(gate.hold("anna", MEGABYTE))
        held.enter_context(gate.hold("bert", 80 * MEGABYTE))
    assert metrics.registry.get_sample_value(HELD) == 0


def test_full_memory_of_keys_leaves_theirs_to_callers_without_one(gate: Gate, metrics: Metrics) -> None:
    with (
        gate.hold("anna", 160 * MEGABYTE),
        gate.hold_for_stranger("192.0.2.1", 5 * MEGABYTE),
        gate.hold_for_stranger("192.0.2.2", 5 * MEGABYTE),
        pytest.raises(MemoryFull),
        gate.hold_for_stranger("192.0.2.3", MEGABYTE),
    ):
        pass
    assert metrics.registry.get_sample_value("idefics2_refused_calls_total", {"reason": "MEMORY_FULL"}) == 1

"""The bounds of the sampling parameters, for callers who come without the front service."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from idefics2_engine.errors import InvalidRequest

if TYPE_CHECKING:
    from idefics2_engine.requests import SamplingParams

MAX_TOP_K = 1000
MAX_STOPS, MAX_STOP_BYTES = 8, 128
"""Each is looked for at each token, while all others wait."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 10.0
# A smaller one would make infinities of scores, which are float32.
MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 10.0


def check_sampling(params: SamplingParams, max_new_tokens: int) -> None:
    """Refuse what would hang, divide by zero or sample from nothing.

    Raises:
        InvalidRequest: VALUE_OUT_OF_RANGE; field, bound and value are in the message.

    """
    temperature, penalty = params.temperature, params.repetition_penalty
    checks = (
        ("max_new_tokens", f"1 to {max_new_tokens}", 1 <= params.max_new_tokens <= max_new_tokens),
        ("min_new_tokens", "0 to max_new_tokens", 0 <= params.min_new_tokens <= params.max_new_tokens),
        (
            "repetition_penalty",
            f"{MIN_REPETITION_PENALTY:g} to {MAX_REPETITION_PENALTY:g}",
            MIN_REPETITION_PENALTY <= penalty <= MAX_REPETITION_PENALTY,
        ),
        (
            "temperature",
            f"0, or {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}",
            temperature == 0 or MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE,
        ),
        ("top_p", "above 0, up to 1", 0 < params.top_p <= 1),
        ("top_k", f"0 to {MAX_TOP_K}", 0 <= params.top_k <= MAX_TOP_K),
        ("stop", "texts that are not empty", all(params.stop)),
    )
    if len(params.stop) > MAX_STOPS:
        message = f"stop must be at most {MAX_STOPS} texts, not {len(params.stop)}"
        raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "stop")
    for text in params.stop:
        if (size := len(text.encode())) > MAX_STOP_BYTES:
            message = f"stop must be texts of at most {MAX_STOP_BYTES} bytes, not of {size}"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "stop")
    for field, bound, holds in checks:
        value = getattr(params, field)
        if not holds or (isinstance(value, float) and not math.isfinite(value)):
            message = f"{field} must be {bound}, not {value}"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, field)

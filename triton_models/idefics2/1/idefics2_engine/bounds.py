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
        InvalidRequest: VALUE_OUT_OF_RANGE; names field, bound and value.

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
        raise _explain("stop", f"at most {MAX_STOPS} texts", len(params.stop))
    for text in params.stop:
        if (size := len(text.encode())) > MAX_STOP_BYTES:
            bound = f"texts of at most {MAX_STOP_BYTES} bytes"
            message = f"stop must be {bound}, not of {size}"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "stop", bound=bound, value=size)
    for field, bound, holds in checks:
        value = getattr(params, field)
        if not holds or (isinstance(value, float) and not math.isfinite(value)):
            raise _explain(field, bound, value)


def _explain(field: str, bound: str, value: object) -> InvalidRequest:
    message = f"{field} must be {bound}, not {value}"
    return InvalidRequest("VALUE_OUT_OF_RANGE", message, field, bound=bound, value=value)

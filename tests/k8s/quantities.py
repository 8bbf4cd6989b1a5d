"""Kubernetes' way to write amounts."""

from __future__ import annotations

import re

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def read_bytes(text: str) -> int:
    """Read an amount of bytes.

    Raises:
        ValueError: it is not written as one.

    """
    match = re.fullmatch(r"([0-9]+)([A-Za-z]*)", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"not an amount of bytes: {text!r}")
    return int(match[1]) * _UNITS[match[2]]

"""Python's search for garbage that refers to itself, kept from looking again and again at what lasts."""

from __future__ import annotations

import gc

_NUM_YOUNG, _NUM_MIDDLE = 700, 10
_NUM_MIDDLE_BEFORE_FULL = 100
"""Python's own is 10. A full search stops everything for a microsecond per object, of which a running request
that is watched holds some 400. What it finds is little: almost all goes when nobody refers to it."""


def spare_what_lasts() -> None:
    """Let no search look at what was built until now, and few at all that came since.

    For the whole process; once everything is built that stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NUM_YOUNG, _NUM_MIDDLE, _NUM_MIDDLE_BEFORE_FULL)

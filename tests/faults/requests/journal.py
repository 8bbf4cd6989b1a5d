"""What a Triton was asked, written down where other processes can read it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from processes import patience

if TYPE_CHECKING:
    from pathlib import Path


class Note(NamedTuple):
    """Something that happened to a request."""

    what: str
    """begun, then ended or cancelled."""
    request_id: str
    time: float
    """Of the monotonic clock, which all processes share."""


def write_note(file: TextIO, what: str, request_id: str) -> None:
    """Note what happened now."""
    print(json.dumps(Note(what, request_id, time.monotonic())), file=file, flush=True)


def read_notes(journal: Path) -> list[Note]:
    """Read all of it."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [Note(*json.loads(line)) for line in lines]


def wait_for_note(journal: Path, what: str, request_id: str) -> Note:
    """Return a note once it is there."""
    for _ in patience(f"{request_id} {what}"):
        for note in read_notes(journal):
            if (note.what, note.request_id) == (what, request_id):
                return note
    raise AssertionError

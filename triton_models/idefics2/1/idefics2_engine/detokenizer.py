"""From tokens, one by one, to text that can be shown."""

from __future__ import annotations

import codecs
import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # how SentencePiece writes a space


class Detokenizer:
    """Holds back what may yet change: half characters, and the beginning of a stop string.

    What `add` and `finish` return, joined, is the answer: the tokens decoded together and cut before the
    stop string that is complete first, or the longest of those that are complete at once. So it does not
    matter how the text fell into tokens. It equals transformers' `decode` but for bytes that are no UTF-8:
    there `decode` also replaces valid characters next to them, which may have been shown already.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        """Begin an answer; `tokenizer` is transformers', of the SentencePiece kind with byte fallback."""
        self.stopped = False
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self._special_ids = frozenset(token_id for token_id, token in added if token.special)
        self._stop = stop
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_first = True
        self._held = ""

    def add(self, token_id: int) -> str:
        """Take the next token and return the text that is certain now, perhaps none."""
        return self._release(self._decode(token_id))

    def finish(self) -> str:
        """Return what is left when no token will follow."""
        if self.stopped:
            return ""
        text = self._release(self._bytes.decode(b"", final=True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _decode(self, token_id: int) -> str:
        if token_id in self._special_ids:
            return ""
        piece: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is None:  # vocabularies are sometimes filled up to a round number
            return ""
        if byte := _BYTE.fullmatch(piece):
            text = self._bytes.decode(bytes.fromhex(byte[1]))
        else:
            text = self._bytes.decode(b"", final=True) + piece.replace(_SPACE, " ")
        if text and self._is_first:
            self._is_first = False
            text = text.removeprefix(" ")
        return text

    def _release(self, piece: str) -> str:
        text = self._held + piece
        found = [(begin + len(stop), begin) for stop in self._stop if (begin := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            _, begin = min(found)
            return text[:begin]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Count the characters at the end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)

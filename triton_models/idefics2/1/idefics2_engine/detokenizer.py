"""From tokens, one by one, to text that can be shown."""

from __future__ import annotations

from typing import Any

from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Holds back what may yet change: half characters, and the beginning of a stop string.

    What `add` and `finish` return, joined, is the answer: the tokens decoded together, cut before the
    first stop string.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:  # untyped
        """Begin an answer; `tokenizer` is transformers' fast one."""
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._stream = DecodeStream(skip_special_tokens=True)
        self._token_ids: list[int] = []
        self._num_decoded_characters = 0
        self._held = ""

    def add(self, token_id: int) -> str:
        """Take the next token and return the text that is certain now, perhaps none."""
        self._token_ids.append(token_id)
        piece = self._stream.step(self._tokenizer.backend_tokenizer, token_id) or ""
        return self._release(piece)

    def finish(self) -> str:
        """Return what is left when no token will follow."""
        if self.stopped:
            return ""
        whole = self._tokenizer.decode(self._token_ids, skip_special_tokens=True)
        text = self._release(whole[self._num_decoded_characters :])
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _release(self, piece: str) -> str:
        self._num_decoded_characters += len(piece)
        text = self._held + piece
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Count the characters at the end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)

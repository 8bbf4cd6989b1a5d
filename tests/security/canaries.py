"""Words that must stand nowhere, and who looks for them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Canaries:
    """What callers keep secret, each word unlike every other; the rest of them is made of these."""

    prompt: str = "canary-prompt-What did the patient say?"
    special: str = "canary-special-<image>"
    stop: str = "canary-stop"
    answer: str = "canary-answer"
    picture: str = "canary-picture"
    url_path: str = "canary-path"
    url_signature: str = "canary-signature"
    url_user: str = "canary-user"
    hook_path: str = "canary-hook"
    hook_token: str = "canary-token"
    file_name: str = "canary-file.png"
    upload_id: str = "canary-upload"
    data_uri: str = "canary-data"
    wrong_key: str = "canary0wrong0key"
    store_password: str = "canary-store-password"
    method: str = "CanaryMethod"
    query: str = "canary-query"


def find(words: dict[str, str], text: bytes) -> set[str]:
    """Return the names of the words that stand in a text, as they are or as programs write them."""
    lowered = text.lower()
    return {
        name for name, word in words.items() if any(form.lower() in lowered for form in _write(word.encode()))
    }


def _write(word: bytes) -> list[bytes]:
    """Write a word plainly, in hexadecimal digits, for a URL, and in base64 wherever it may begin."""
    packed = [_pack(word, num_before) for num_before in range(3)]
    return [word, word.hex().encode(), quote(word.decode(), safe="").encode(), *packed]


def _pack(word: bytes, num_before: int) -> bytes:
    """Write in base64 what depends on a word alone where it stands behind so many bytes."""
    whole = base64.b64encode(bytes(num_before) + word)
    return whole[4 * (num_before > 0) : (num_before + len(word)) // 3 * 4]

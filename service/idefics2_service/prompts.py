"""What may stand in a prompt."""

from __future__ import annotations

from idefics2_service.errors import PromptHasSpecialToken, PromptMissing, PromptTooLarge, TextNotUnicode

# Markers of the model's own template. In a caller's text they would become images, or end the turn.
SPECIAL_TOKENS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>")


def check_prompt(prompt: str, max_prompt_bytes: int) -> None:
    """Refuse a prompt that the model cannot be given.

    Raises:
        InvalidInput: it is empty, too long, not Unicode, or holds a marker of the template.

    """
    if not prompt.strip():
        raise PromptMissing("prompt is empty", field="prompt")
    if (size := num_bytes(prompt, "prompt")) > max_prompt_bytes:
        message = f"prompt has {size} bytes; at most {max_prompt_bytes} are allowed"
        raise PromptTooLarge(message, field="prompt", bound=str(max_prompt_bytes), value=str(size))
    for token in SPECIAL_TOKENS:
        if token in prompt:
            message = f"prompt contains {token}, which only the model's own template may use"
            raise PromptHasSpecialToken(message, field="prompt", value=token)


def num_bytes(text: str, field: str) -> int:
    """Count the bytes of `text` in UTF-8.

    Raises:
        TextNotUnicode: it holds a lone surrogate.

    """
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        message = f"{field} has a lone surrogate at character {error.start}"
        raise TextNotUnicode(message, field=field) from error

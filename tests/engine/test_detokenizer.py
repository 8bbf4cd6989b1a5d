"""Text deltas: whole characters, nothing of a stop string, and joined the whole answer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from idefics2_engine.detokenizer import Detokenizer

TEXTS = [
    "A red circle on a white background.",
    "  two spaces, and a tail  ",
    "line\nline\n\nline",
    "Zażółć gęślą jaźń",
    "日本語のテキスト",
    "emoji 👩‍👩‍👧 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "",
]


def detokenize(tokenizer: Any, ids: list[int], *stop: str) -> list[str]:
    """Return the deltas of an answer of these tokens."""
    detokenizer = Detokenizer(tokenizer, stop)
    deltas = []
    for token_id in ids:
        deltas.append(detokenizer.add(token_id))
        if detokenizer.stopped:
            return deltas
    return [*deltas, detokenizer.finish()]


@pytest.mark.parametrize("text", TEXTS)
def test_deltas_joined_equal_transformers_decode(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(detokenize(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_random_tokens_without_bytes_decode_as_transformers_does(tokenizer: Any) -> None:
    draw = random.Random(7)  # noqa: S311  # not a secret
    plain = [i for i in range(len(tokenizer)) if not tokenizer.convert_ids_to_tokens(i).startswith("<0x")]
    for _ in range(200):
        ids = draw.choices(plain, k=30)
        assert "".join(detokenize(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_random_tokens_among_bytes_of_whole_characters_decode_as_transformers_does(tokenizer: Any) -> None:
    draw = random.Random(8)  # noqa: S311  # not a secret
    plain = [i for i in range(len(tokenizer)) if not tokenizer.convert_ids_to_tokens(i).startswith("<0x")]
    for _ in range(200):
        ids: list[int] = []
        for character in draw.choices(" \0é\u2581日👩", k=8):
            ids += (tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in character.encode())
            ids += draw.choices(plain, k=draw.randrange(3))
        assert "".join(detokenize(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_is_never_split(tokenizer: Any) -> None:
    ids = tokenizer("日本 👩‍👩‍👧", add_special_tokens=False)["input_ids"]
    assert len(ids) > len("日本 👩‍👩‍👧")  # several tokens a character
    assert not any("\ufffd" in delta for delta in detokenize(tokenizer, ids))


def test_bytes_that_are_no_text_become_replacement_characters_and_change_nothing_before(
    tokenizer: Any,
) -> None:
    ids = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in (0x47, 0xF0, 0x47)]
    assert detokenize(tokenizer, ids) == ["G", "", "\ufffdG", ""]


@pytest.mark.parametrize(
    ("stop", "kept"),
    [
        (" white", "A red circle on a"),
        ("circle on", "A red "),
        ("d c", "A re"),
        ("A", ""),
        (".", "A red circle on a white background"),
        ("blue", "A red circle on a white background."),
        ("background. More", "A red circle on a white background."),
    ],
)
def test_the_answer_ends_before_the_stop_string(tokenizer: Any, stop: str, kept: str) -> None:
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert "".join(detokenize(tokenizer, ids, stop)) == kept


class Pieces:
    """A tokenizer of tokens that are pieces of a text, by their places."""

    def __init__(self, pieces: list[str]) -> None:
        """Know these pieces, and no special one."""
        self.added_tokens_decoder: dict[int, Any] = {}
        self._pieces = pieces

    def convert_ids_to_tokens(self, token_id: int) -> str:
        """Return the piece."""
        return self._pieces[token_id]


def detokenize_pieces(pieces: list[str], *stop: str) -> str:
    """Return the answer of a text that fell into these pieces."""
    return "".join(detokenize(Pieces(pieces), list(range(len(pieces))), *stop))


def split_anywhere(text: str, draw: random.Random) -> list[str]:
    """Let a text fall into pieces."""
    cuts = sorted(draw.sample(range(1, len(text)), draw.randrange(len(text))))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def cut_plainly(text: str, stop: list[str]) -> str:
    """Cut a text before the stop string that is complete first, the longest of several."""
    for end in range(len(text) + 1):
        if complete := [len(each) for each in stop if text[:end].endswith(each)]:
            return text[: end - max(complete)]
    return text


def test_where_an_answer_ends_does_not_depend_on_how_its_text_fell_into_tokens() -> None:
    draw = random.Random(9)  # noqa: S311  # not a secret
    num_cut = 0
    for _ in range(3000):
        text = "".join(draw.choices("ab", k=draw.randint(1, 20)))
        stop = ["".join(draw.choices("ab", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 4))]
        expected = cut_plainly(text, stop)
        num_cut += expected not in (text, "")
        for pieces in ([text], list(text), split_anywhere(text, draw), split_anywhere(text, draw)):
            assert detokenize_pieces(pieces, *stop) == expected, (pieces, stop)
    assert num_cut > 500


@pytest.mark.parametrize(
    ("stop", "kept"),
    [
        ((" END", " THE END."), "so THE"),
        ((" END.", " THE END."), "so"),
        ((" THE END. ", "END."), "so THE "),
        ((" THE", "THE END"), "so"),
    ],
)
@pytest.mark.parametrize("pieces", [["so THE END."], ["so", " THE", " END", "."], list("so THE END.")])
def test_of_stop_strings_that_overlap_the_one_that_is_complete_first_counts(
    pieces: list[str], stop: tuple[str, ...], kept: str
) -> None:
    assert detokenize_pieces(pieces, *stop) == kept


def test_of_several_stop_strings_the_first_in_the_text_counts(tokenizer: Any) -> None:
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert "".join(detokenize(tokenizer, ids, "white", "red", "circle")) == "A "


def test_no_delta_holds_the_beginning_of_a_stop_string_that_comes(tokenizer: Any) -> None:
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    shown = ""
    for delta in detokenize(tokenizer, ids, "circle on a white"):
        shown += delta
        assert TEXTS[0].startswith(shown)
        assert not shown.endswith("c")
    assert shown == "A red "

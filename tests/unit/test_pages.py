"""A page has as many entries as may be asked for, and its token leads back to its place in its list alone."""

from __future__ import annotations

import base64
import json

import pytest
from idefics2_service.errors import PageTokenInvalid, ValueOutOfRange
from idefics2_service.rpc.pages import read_page_size, read_page_token, write_page_token

LIST_ID = json.loads(base64.urlsafe_b64decode(write_page_token("anna", "QUEUED", 0)))[0]


def write(content: object) -> str:
    """Write what should be a token's content."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1_000, 1_000)])
def test_a_page_has_as_many_entries_as_are_asked_for(asked: int, size: int) -> None:
    assert read_page_size(asked) == size


@pytest.mark.parametrize("asked", [-1, 1_001])
def test_a_page_of_a_size_that_there_is_not_is_refused(asked: int) -> None:
    with pytest.raises(ValueOutOfRange, match=f"1 to 1000, or 0 for the default, not {asked}") as caught:
        read_page_size(asked)
    assert caught.value.field == "page_size"


@pytest.mark.parametrize("place", [0, 1, 2**53])
def test_a_token_leads_back_to_its_place(place: int) -> None:
    assert read_page_token(write_page_token("anna", None, place), "anna", None, int) == place
    name = "0" * 32
    assert read_page_token(write_page_token("anna", "files", name), "anna", "files", str) == name


def test_no_token_is_the_first_page_and_the_last_page_has_none() -> None:
    assert read_page_token("", "anna", None, int) is None
    assert write_page_token("anna", None, None) == ""


def test_a_token_that_an_older_replica_gave_for_a_list_of_requests_is_good() -> None:
    assert read_page_token(write([LIST_ID, 17]), "anna", "QUEUED", int) == 17


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "ü",
        "0" * 32,
        write([]),
        write({LIST_ID: 1, "x": 2}),
        write(["0" * 16, 5]),
        write([LIST_ID, True]),
        write([LIST_ID, 1.5]),
        write([LIST_ID, -1]),
        write([LIST_ID, 10**30]),
        write([LIST_ID, "0" * 32]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["\xff", 1]').decode(),
    ],
)
def test_what_is_no_token_of_the_list_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid, match="next_page_token of this list") as caught:
        read_page_token(token, "anna", "QUEUED", int)
    assert caught.value.field == "page_token"

"""Public links of files, and what is none."""

from __future__ import annotations

import tracemalloc
from urllib.parse import urljoin

import pytest
from idefics2_service.uploads.links import MAX_LINK_BYTES, make_public_path, read_public_path

ID = "0123456789abcdef" * 2
NAMES = [
    "",
    "circle.png",
    "a b/c?d#e%2F.png",
    "é\u202f.png",
    ".",
    "..",
    "...",
    "\\..\\x",
    "x" * 255,
    "a/..",
    "a/",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("base", ["http://localhost:8080/", "https://x.org/a/files/b/", "HTTPS://[::1]/"])
def test_a_public_path_is_read_back_from_any_host_below_any_prefix(name: str, base: str) -> None:
    path = make_public_path("anna_-1", ID, name)
    assert path.startswith(f"files/anna_-1/{ID}")
    assert read_public_path(base + path) == ("anna_-1", ID)
    assert read_public_path(base + path + "?download=1#top") == ("anna_-1", ID)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_path_is_one_that_clients_leave_as_it_is(name: str) -> None:
    path = make_public_path("anna_-1", ID, name)
    assert urljoin("http://localhost/", path) == f"http://localhost/{path}"
    assert path.isascii()
    assert path.count("/") == 2 + path.endswith(path.split("/", 3)[-1]) * (len(path.split("/")) > 3)


@pytest.mark.parametrize(
    ("name", "end"),
    [("photos/cat.png", "/cat.png"), ("/a/b/c d.png", "/c%20d.png"), ("a/", ""), ("a/..", "")],
)
def test_of_a_name_with_slashes_the_last_part_stands_in_the_path(name: str, end: str) -> None:
    assert make_public_path("anna_-1", ID, name) == f"files/anna_-1/{ID}{end}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"files/anna/{ID}",
        f"ftp://localhost/files/anna/{ID}",
        f"idefics2://files/anna/{ID}",
        f"http://localhost/file/anna/{ID}",
        f"http://localhost/files/{ID}",
        f"http://localhost/files/../{ID}",
        f"http://localhost/files/a%2e/{ID}",
        f"http://localhost/files/{'a' * 65}/{ID}",
        f"http://localhost/files/anna/{ID}0",
        f"http://localhost/files/anna/{ID.upper()}",
        f"http://localhost/files/anna/{ID}/a/b",
        f"http://localhost/myfiles/anna/{ID}",
        f"http://localhost/?/files/anna/{ID}",
        f"http://[::1/files/anna/{ID}",
        f"http://localhost/{'x' * MAX_LINK_BYTES}/files/anna/{ID}",
    ],
)
def test_what_is_no_public_link_is_none(url: str) -> None:
    assert read_public_path(url) is None


@pytest.mark.parametrize("beginning", ["data:image/png;base64,", "http://localhost/", "HTTPS://localhost/"])
def test_nothing_of_a_picture_in_a_url_stays_in_memory(beginning: str) -> None:
    tracemalloc.start()
    try:
        for number in range(20):
            assert read_public_path(f"{beginning}{number}{'x' * 100_000}") is None
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()

"""`idefics2 upload`, `files`, `download` and `delete`, and what else uploads, in this process."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from fakes.file_server import make_file
from fakes.generation_server import finished, text
from fakes.request_server import make_request
from fakes.scripted_server import Take, make_status
from google.protobuf.timestamp_pb2 import Timestamp
from idefics2.v1.files_pb2 import (
    DeleteFileRequest,
    DownloadFileRequest,
    DownloadFileResponse,
    ListFilesRequest,
    ListFilesResponse,
)
from idefics2.v1.generation_pb2 import CountTokensResponse
from idefics2_client.__main__ import main
from idefics2_client.images import INLINE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.file_server import FileServer

DATA = b"BM" + bytes(1000)
LARGE = b"BM" + bytes(INLINE_BYTES)
NO_FILE = make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "this key has no uploaded file abc")
NO_UPLOAD = make_status("NOT_FOUND", "UPLOAD_NOT_FOUND", "why")
URL = make_file().url
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _target(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_CLIENT_TARGET", server.target)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "one.bmp", tmp_path / "two.bmp"]
    for path in paths:
        path.write_bytes(DATA)
    return [str(path) for path in paths]


def test_upload_prints_the_url_of_each(server: FileServer, capsys: Captured, paths: list[str]) -> None:
    for _ in paths:
        server.expect(Take(), make_file(DATA))
    assert main(["upload", *paths, "--ttl", "60"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{URL}\n{URL}\n"
    lines = [f"uploading {name}: {share} %" for name in ("one.bmp", "two.bmp") for share in (0, 100)]
    assert err.splitlines() == lines
    assert [(start.name, start.ttl.seconds) for start in server.requests] == [
        ("one.bmp", 60),
        ("two.bmp", 60),
    ]


def test_upload_says_how_far_it_is_in_tenths(server: FileServer, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "large.bmp").write_bytes(LARGE)
    server.expect(NO_FILE)
    server.expect(NO_UPLOAD)
    server.expect(Take(), make_file(LARGE))
    assert main(["upload", str(tmp_path / "large.bmp")]) == 0
    shares = [int(line.split()[-2]) for line in capsys.readouterr().err.splitlines()]
    assert shares == sorted(set(shares))
    assert (shares[0], shares[-1], len(shares)) == (0, 100, 9)


def test_upload_reads_standard_input(
    server: FileServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DATA)))
    server.expect(Take(), make_file(DATA))
    assert main(["upload", "-", "--name", "in\x1b[2J.bmp", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "id": "f" * 32,
        "url": URL,
        "name": "",
        "size_bytes": len(DATA),
        "sha256": hashlib.sha256(DATA).hexdigest(),
        "content_type": "image/bmp",
        "create_time": None,
        "expire_time": None,
    }
    assert "\x1b" not in err
    assert server.received == [DATA]


def test_upload_of_what_there_is_not_ends_with_2_and_sends_nothing(
    server: FileServer, capsys: Captured
) -> None:
    assert main(["upload", "nowhere/cat.png"]) == 2
    assert capsys.readouterr().err == (
        "idefics2: cannot read image nowhere/cat.png: No such file or directory\n"
    )
    assert server.requests == []


def test_a_quota_says_what_to_do(server: FileServer, capsys: Captured, paths: list[str]) -> None:
    server.expect(Take(), make_status("RESOURCE_EXHAUSTED", "FILE_QUOTA_EXCEEDED", "at most 4 files"))
    assert main(["upload", paths[0]]) == 4
    assert "`idefics2 files`" in capsys.readouterr().err


def test_files_prints_a_row_for_each(server: FileServer, capsys: Captured) -> None:
    file = make_file(DATA, name="cat\x1b[2J.bmp")
    file.create_time.CopyFrom(Timestamp(seconds=86_400))
    server.expect(ListFilesResponse(files=[file, make_file(file_id="b")]))
    assert main(["files", "--limit", "1"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["UPLOADED", "(UTC)", "BYTES", "TYPE", "URL", "NAME"]
    assert row.split() == ["1970-01-02", "00:00:00", "1002", "image/bmp", URL, "cat[2J.bmp"]
    assert server.requests == [ListFilesRequest(page_size=1)]


def test_files_prints_json(server: FileServer, capsys: Captured) -> None:
    server.expect(ListFilesResponse(files=[make_file(file_id="a"), make_file(file_id="b")]))
    assert main(["files", "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]


def test_download_writes_to_a_path(server: FileServer, capsys: Captured, tmp_path: Path) -> None:
    server.expect(DownloadFileResponse(file=make_file(DATA)), DownloadFileResponse(chunk=DATA))
    path = tmp_path / "cat.bmp"
    assert main(["download", URL, str(path)]) == 0
    assert path.read_bytes() == DATA
    assert capsys.readouterr() == (f"{path}\n", "downloading an image: 0 %\ndownloading an image: 100 %\n")
    assert server.requests == [DownloadFileRequest(id="f" * 32)]


def test_download_writes_to_standard_output(server: FileServer, capsysbinary: Any) -> None:
    server.expect(DownloadFileResponse(file=make_file(DATA)), DownloadFileResponse(chunk=DATA))
    assert main(["download", "abc", "-"]) == 0
    assert capsysbinary.readouterr().out == DATA


def test_download_says_what_it_cannot_write(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "cat.bmp"
    assert main(["download", "abc", str(path)]) == 1
    assert capsys.readouterr().err == f"idefics2: cannot write {path}: No such file or directory\n"


def test_a_file_that_is_not_known_is_exit_status_6(server: FileServer, capsys: Captured) -> None:
    server.expect(NO_FILE)
    assert main(["download", "abc", "-"]) == 6
    assert capsys.readouterr().err == "idefics2: this key has no uploaded file abc (upload it again)\n"


def test_delete_prints_what_it_deleted(server: FileServer, capsys: Captured) -> None:
    server.expect(make_file())
    server.expect(NO_FILE)
    assert main(["delete", URL, "sha256:ab", "c"]) == 6
    assert capsys.readouterr().out == f"{URL}\n"
    assert server.requests == [DeleteFileRequest(id="f" * 32), DeleteFileRequest(sha256="ab")]


@pytest.mark.parametrize("command", ["ask", "count", "submit"])
def test_a_large_picture_is_uploaded_first_and_that_is_said(
    server: FileServer, capsys: Captured, tmp_path: Path, command: str
) -> None:
    (tmp_path / "large.bmp").write_bytes(LARGE)
    server.expect(NO_FILE)
    server.expect(NO_UPLOAD)
    server.expect(Take(), make_file(LARGE))
    answers: dict[str, tuple[Any, ...]] = {
        "ask": (text("A cat."), finished("A cat.")),
        "count": (CountTokensResponse(),),
        "submit": (make_request(),),
    }
    server.expect(*answers[command])
    assert main([command, str(tmp_path / "large.bmp"), "What?"]) == 0
    assert "uploading large.bmp: 50 %\n" in capsys.readouterr().err
    sent = server.requests[-1].input if command == "submit" else server.requests[-1]
    assert sent.images[0].sha256 == hashlib.sha256(LARGE).hexdigest()


def test_an_uploaded_file_is_asked_about(server: FileServer, capsys: Captured) -> None:
    for image in (URL, "sha256:ab"):
        server.expect(text("A cat."), finished("A cat."))
        assert main(["ask", image, "What?"]) == 0
    assert [request.image_url for request in server.requests] == [URL, ""]
    assert server.requests[1].images[0].sha256 == "ab"
    assert capsys.readouterr().out == "A cat.\nA cat.\n"


def test_a_certificate_that_cannot_be_read_is_exit_status_2(capsys: Captured, tmp_path: Path) -> None:
    path = str(tmp_path / "ca.pem")
    assert main(["files", "--ca-file", path]) == 2
    line = (
        f"idefics2: ca_file (or IDEFICS2_CLIENT_CA_FILE): {path} cannot be read: No such file or directory\n"
    )
    assert capsys.readouterr().err == line


def test_tls_against_a_port_without_is_exit_status_2(capsys: Captured) -> None:
    assert main(["files", "--tls"]) == 2
    assert "does not speak TLS" in capsys.readouterr().err

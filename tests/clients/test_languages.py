"""What every client ships beside its code: a program that works, and wire code of today's proto."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest
from clients.languages import LANGUAGES, ROOT, Language, find_selected
from fakes.generation_server import GenerationServer, text
from fakes.scripted_server import PATIENCE_SECONDS, Hang
from harness import MakeSettings, red_circle_answer, run_on_fake_backend
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from processes import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

_MAX_LINES = 40
_SELECTED = find_selected()
_WITH_PROGRAM = [language for language in _SELECTED if language.program]
_WITH_PACKAGE = [language for language in _SELECTED if language.pack]
_WITH_CHECKS = [language for language in _SELECTED if language.checks]


@pytest.mark.parametrize("language", _WITH_PROGRAM, ids=lambda language: language.name)
def test_the_readme_shows_a_short_program(language: Language) -> None:
    assert language.source is not None
    assert language.readme is not None
    source = language.source.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= _MAX_LINES
    assert f"\n{source}```\n<!-- /program -->" in language.readme.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", _WITH_PROGRAM, ids=lambda language: language.name)
async def test_that_program_gets_an_answer(
    language: Language, tmp_path: Path, make_settings: MakeSettings
) -> None:
    picture = tmp_path / "circle.png"
    picture.write_bytes(red_circle())
    async with run_on_fake_backend(make_settings()) as service:
        service.expect(red_circle_answer())
        variables = {
            **clean_environment(),
            **language.variables,
            "IDEFICS2_CLIENT_TARGET": service.app.grpc_address,
            "IDEFICS2_API_KEY": str(service.app.api_key),
        }
        process = await asyncio.create_subprocess_exec(
            *language.program, str(picture), DESCRIBE, cwd=language.folder, env=variables, stdout=PIPE
        )
        output, _ = await process.communicate()
    assert (process.returncode, output.decode()) == (0, f"{RED_CIRCLE}\n")


@pytest.mark.parametrize("language", _WITH_PROGRAM, ids=lambda language: language.name)
def test_that_program_says_why_there_is_no_answer(language: Language, tmp_path: Path) -> None:
    (tmp_path / "circle.png").write_bytes(red_circle())
    variables = {
        **clean_environment(),
        **language.variables,
        "IDEFICS2_CLIENT_TARGET": "127.0.0.1:1",
        "IDEFICS2_API_KEY": "local.key",
    }
    for picture, word in (("circle.png", "127.0.0.1:1"), ("nowhere.png", "nowhere.png")):
        command = (*language.program, str(tmp_path / picture), DESCRIBE)
        ended = subprocess.run(
            command, cwd=language.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (1, "")
        assert word in ended.stderr


@pytest.mark.parametrize("language", _WITH_PROGRAM, ids=lambda language: language.name)
async def test_ctrl_c_in_mid_answer_ends_that_program_and_its_call(
    language: Language, tmp_path: Path
) -> None:
    picture = tmp_path / "circle.png"
    picture.write_bytes(red_circle())
    with GenerationServer() as server:
        server.expect(text("A red"), Hang())
        variables = {**clean_environment(), **language.variables, "IDEFICS2_CLIENT_TARGET": server.target}
        process = await asyncio.create_subprocess_exec(
            *language.program, str(picture), DESCRIBE, cwd=language.folder, env=variables, stdout=PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.read(5) == b"A red"
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        assert process.returncode != 0
        await asyncio.to_thread(server.wait_until_cancelled)


@pytest.mark.parametrize("language", _WITH_CHECKS, ids=lambda language: language.name)
def test_its_own_tests_pass(language: Language) -> None:
    for command in language.checks:
        subprocess.run(command, cwd=language.folder, env={**os.environ, **language.variables}, check=True)


@pytest.mark.parametrize("language", _WITH_PACKAGE, ids=lambda language: language.name)
def test_what_would_be_published_is_whole_and_has_nothing_else(language: Language, tmp_path: Path) -> None:
    command = [part.format(folder=tmp_path) for part in language.pack]
    variables = {**os.environ, **language.variables}
    ended = subprocess.run(
        command, cwd=language.folder, env=variables, stdout=subprocess.PIPE, text=True, check=True
    )
    files = ended.stdout.splitlines()
    assert [end for end in language.packed if not any(file.endswith(end) for file in files)] == []
    # Nor tests, nor what others publish and a program may hold only once.
    strangers = ("/test/", "/examples/", "include/google/")
    assert [file for file in files if any(part in file for part in strangers)] == []


def test_the_gem_asks_for_a_protobuf_that_reads_its_wire_code() -> None:
    folder = ROOT / "clients/ruby"
    code = [path.read_text(encoding="utf-8") for path in folder.glob("lib/idefics2/v1/*_pb.rb")]
    gemspec = (folder / "idefics2-client.gemspec").read_text(encoding="utf-8")
    is_old = any("generated_pool.build do" in text for text in code)  # which protobuf 4 does not know
    assert not is_old or re.search(r"'google-protobuf', .*'< 4'", gemspec)


def test_the_go_module_asks_for_no_genproto() -> None:
    # Its packages have moved from one module into several; where both are asked for, no program builds.
    folder = ROOT / "clients/go"
    sources = [folder / "go.mod", *folder.rglob("*.go")]
    assert [path for path in sources if "org/genproto" in path.read_text(encoding="utf-8")] == []


@pytest.mark.skipif(len(_SELECTED) < len(LANGUAGES), reason="needs every toolchain: make test-clients")
def test_the_wire_code_is_fresh(tmp_path: Path) -> None:
    variables = {name: value for language in _SELECTED for name, value in language.variables.items()}
    command = ("buf", "generate", "--output", str(tmp_path))
    subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made
    stale = [str(path.relative_to(tmp_path)) for path in made if not _is_same(path, tmp_path)]
    assert stale == [], "run `make proto-clients`"


def _is_same(path: Path, folder: Path) -> bool:
    kept = ROOT / path.relative_to(folder)
    return kept.exists() and kept.read_bytes() == path.read_bytes()

"""A proto that changes without the wire code of some language is noticed where its toolchain is not."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from clients.languages import LANGUAGES, ROOT, Language
from clients.wire_code import NPM_GENERATOR, NPM_LOCK, find_stale, keep

if TYPE_CHECKING:
    from pathlib import Path

_GENERATED = [language for language in LANGUAGES if language.wire_code]
_FILES = ("buf.gen.yaml", "clients/wire_code.json", NPM_LOCK, "clients/java/protoc.sh")
_FOLDERS = ("proto", "clients/protos", *(language.wire_code for language in _GENERATED))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what is compared, as of just now."""
    for folder in _FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path in _FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    keep(tmp_path)
    assert find_stale(tmp_path) == []
    return tmp_path


def add_comment(path: Path) -> None:
    """Change a file as little as there is."""
    path.write_text(f"{path.read_text(encoding='utf-8')}// changed\n", encoding="utf-8")


def test_all_of_it_is_todays() -> None:
    assert find_stale() == [], "run `make proto-clients`"
    assert [language.name for language in LANGUAGES if not language.wire_code] == ["python"]


@pytest.mark.parametrize("path", ["proto/idefics2/v1/files.proto", "buf.gen.yaml", "clients/java/protoc.sh"])
def test_what_it_is_made_of_may_not_change_without_it(root: Path, path: str) -> None:
    add_comment(root / path)
    assert find_stale(root) == ["protos"]


def test_nor_may_the_generator_that_npm_brings(root: Path) -> None:
    lock = json.loads((root / NPM_LOCK).read_text(encoding="utf-8"))
    lock["packages"][NPM_GENERATOR]["version"] += ".1"
    (root / NPM_LOCK).write_text(json.dumps(lock), encoding="utf-8")
    assert find_stale(root) == ["protoc-gen-es"]


@pytest.mark.parametrize("language", _GENERATED, ids=lambda language: language.name)
def test_nor_may_it_change_by_itself(root: Path, language: Language) -> None:
    add_comment(next(path for path in (root / language.wire_code).rglob("*.*") if path.is_file()))
    assert find_stale(root) == [language.name]

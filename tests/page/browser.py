"""A browser to look at the page with.

The one that `npm ci` brings (`make test-page`) is preferred, as it is the same everywhere; else one of the
machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".cache/page/node_modules"
UNPACKED = ROOT / ".cache/page/browser"
AXE = MODULES / "axe-core/axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_PACKED = MODULES / "@sparticuz/chromium/bin"
_UNPACK = """
const { brotliDecompressSync } = require("node:zlib");
const { readFileSync, writeFileSync } = require("node:fs");
writeFileSync(process.argv[2], brotliDecompressSync(readFileSync(process.argv[1])));
"""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""


@dataclass(frozen=True)
class Program:
    """A browser that can be started."""

    path: str
    variables: dict[str, str] = field(default_factory=dict)


def find_program() -> Program | None:
    """Find a browser; None: there is none."""
    if _PACKED.exists() and shutil.which("node"):
        return _unpack()
    path = next(filter(None, map(shutil.which, NAMES)), None)
    return None if path is None else Program(path)


@asynccontextmanager
async def run_browser(program: Program) -> AsyncIterator[Browser]:
    """Run a browser without a window."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=program.path,
            env={**os.environ, **program.variables},
            args=["--no-sandbox"],  # it sees our own page only, and may be run by root
        )
        try:
            yield browser
        finally:
            await browser.close()


def _unpack() -> Program:
    """Unpack the browser of the npm package, with the libraries and fonts that a bare machine lacks."""
    program = UNPACKED / "chromium"
    if not program.exists():
        UNPACKED.mkdir(exist_ok=True)
        for name in ("al2023.tar", "swiftshader.tar", "fonts.tar"):
            archive = _decompress(f"{name}.br", UNPACKED / name)
            # Not by `tarfile`, whose filters some Pythons of 3.11 lack, and whose absence others warn of.
            subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={UNPACKED}"], check=True)
        (UNPACKED / "fonts.conf").write_text(_FONTS.format(folder=UNPACKED))
        unfinished = _decompress("chromium.br", UNPACKED / "unfinished")
        unfinished.chmod(0o755)
        unfinished.rename(program)  # whole or not there
    variables = {"LD_LIBRARY_PATH": f"{UNPACKED}/lib", "FONTCONFIG_FILE": f"{UNPACKED}/fonts.conf"}
    return Program(str(program), variables)


def _decompress(name: str, target: Path) -> Path:
    subprocess.run(["node", "-e", _UNPACK, str(_PACKED / name), str(target)], check=True)
    return target

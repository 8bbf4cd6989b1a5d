"""Pillow's own test pictures: odd files that broke a decoder once, from the sdist of the version in use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "13.0.0"
_SHA256 = "cdcd1ba258178f7356d74170c9a81ba4eab6a5d55748bc402a5a2a6fe6be3510"
_CACHE = Path(__file__).parents[2] / ".cache" / "corpora"
_PICTURES = f"pillow-{VERSION}/Tests/images"


def find_pictures() -> list[Path]:
    """Return their files, in the order of their names; the first time they are downloaded, and checked."""
    folder = _CACHE / _PICTURES
    if not folder.exists():
        _fetch()
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fetch() -> None:
    """Download the sdist, which pip compares with its sum, and keep the pictures of it."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as name:
        wanted = Path(name, "wanted.txt")
        wanted.write_text(f"pillow=={VERSION} --hash=sha256:{_SHA256}\n")
        options = ("--quiet", "--no-deps", "--no-binary", "pillow", "--dest", name)
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-r", str(wanted)], check=True)
        archive = Path(name, f"pillow-{VERSION}.tar.gz")
        subprocess.run(
            ["tar", "--extract", f"--file={archive}", f"--directory={name}", _PICTURES], check=True
        )
        shutil.move(Path(name, f"pillow-{VERSION}"), _CACHE)

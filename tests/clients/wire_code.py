"""Whether the clients' wire code was made of today's protos, told without any toolchain.

`python -m clients.wire_code` compares with what `--write`, which runs behind `buf generate`, has kept.
Whether today's generators of Debian would make the same, test_languages asks, where they are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING

from clients.languages import LANGUAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_KEPT = "clients/wire_code.json"
_SOURCES = ("proto/**/*.proto", "clients/protos/**/*.proto", "buf.gen.yaml", "clients/*/protoc*.sh")
NPM_LOCK = "clients/typescript/package-lock.json"
NPM_GENERATOR = "node_modules/@bufbuild/protoc-gen-es"


def find_stale(root: Path = ROOT) -> list[str]:
    """Name what is not as when the code was generated: `protos`, `protoc-gen-es`, or a language's code."""
    kept, now = json.loads((root / _KEPT).read_text(encoding="utf-8")), _measure(root)
    return [name for name in sorted(kept.keys() | now.keys()) if kept.get(name) != now.get(name)]


def keep(root: Path = ROOT) -> None:
    """Keep what the code is, and what it was made of just now."""
    (root / _KEPT).write_text(f"{json.dumps(_measure(root), indent=2)}\n", encoding="utf-8")


def _measure(root: Path) -> dict[str, str]:
    packages = json.loads((root / NPM_LOCK).read_text(encoding="utf-8"))["packages"]
    measured = {
        "protos": _digest(root, (path for pattern in _SOURCES for path in root.glob(pattern))),
        "protoc-gen-es": packages[NPM_GENERATOR]["version"],
    }
    for language in LANGUAGES:
        if language.wire_code:
            measured[language.name] = _digest(root, (root / language.wire_code).rglob("*.*"))
    return measured


def _digest(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        keep()
    elif stale := find_stale():
        sys.exit(f"not as when the clients' code was generated: {', '.join(stale)}; run `make proto-clients`")

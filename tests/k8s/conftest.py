"""A copy of the manifests that may be spoilt."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from k8s.manifests import FOLDER, TOOLS, Bundle, list_overlays, render


@dataclass(frozen=True)
class Copy:
    """The folder k8s/, in a place of its own."""

    folder: Path

    def spoil(self, path: str, old: str, new: str) -> None:
        """Put `new` into a file in place of `old`, which must be there."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}: the fault cannot be planted"
        file.write_text(text.replace(old, new, 1))

    def render(self, overlay: str) -> Bundle:
        """Render an overlay of the copy."""
        return render(overlay, self.folder)


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    if not (TOOLS / "kubectl").exists():
        pytest.fail("the tools are missing: `make verify-k8s` installs them", pytrace=False)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(Path(shutil.copytree(FOLDER, tmp_path / "k8s")))


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    return {name: render(name) for name in list_overlays()}

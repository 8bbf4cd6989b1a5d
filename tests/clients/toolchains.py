"""Installs what the clients' languages need, and builds them: `python -m clients.toolchains`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from clients.languages import find_selected

if TYPE_CHECKING:
    from clients.languages import Language


class ToolchainMissing(Exception):
    """Packages of Debian are missing, and this user may not install them."""


def prepare(languages: list[Language]) -> None:
    """Install and build.

    Raises:
        ToolchainMissing: see there.
        subprocess.CalledProcessError: a command failed; it has said why.

    """
    install_debian([package for language in languages for package in language.debian])
    for language in languages:
        for command in language.install:
            run(command, language)


def install_debian(packages: list[str]) -> None:
    """Install those of Debian's packages that are missing."""
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise ToolchainMissing(f"needs Debian's packages: apt-get install {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update", "-qq"), ("install", "-qq", "--no-install-recommends", *missing)):
        subprocess.run(("apt-get", *command), env=environment, check=True)


def is_installed(package: str) -> bool:
    """Tell whether Debian's package is there."""
    if shutil.which("dpkg-query") is None:
        return False
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout == "installed"


def run(command: tuple[str, ...], language: Language) -> None:
    """Run a command of a language, where it belongs."""
    sys.stdout.write(f"{language.name}: {' '.join(command)}\n")
    sys.stdout.flush()
    subprocess.run(command, cwd=language.folder, env={**os.environ, **language.variables}, check=True)


if __name__ == "__main__":
    prepare(find_selected())

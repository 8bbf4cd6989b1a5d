"""A checkpoint from the hub to a volume, at one commit, with every file's SHA-256 known beforehand.

    fetch_weights.py pin REPOSITORY [REVISION]   on your machine: write weights.env and sha256sums.txt anew
    fetch_weights.py fetch                       in the job: fill /weights, or end with a reason

A revision's folder gets its own name as the last act: who sees it sees all of it, checked.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

HERE = Path(__file__).parent
WANTED = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")


class Refused(Exception):
    """The pins are not usable, or a file is not what they say."""


def main() -> int:
    """Run the command line; exit status 1: refused, and the reason is told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pinning = commands.add_parser("pin")
    pinning.add_argument("repository")
    pinning.add_argument("revision", nargs="?", default="main")
    pinning.add_argument("--folder", type=Path, default=HERE)
    fetching = commands.add_parser("fetch")
    fetching.add_argument("--folder", type=Path, default=Path("/weights"))
    given = parser.parse_args()
    try:
        if given.command == "pin":
            pin(given.repository, given.revision, given.folder)
        else:
            sums = read_sums((HERE / "sha256sums.txt").read_text())
            fetch(os.environ["WEIGHTS_REPOSITORY"], os.environ["WEIGHTS_REVISION"], sums, given.folder)
    except Refused as error:
        print(f"fetch_weights: {error}", file=sys.stderr)
        return 1
    return 0


def pin(repository: str, revision: str, folder: Path) -> None:
    """Write down which commit `revision` is now, and what its files hold."""
    found = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = sorted(
        s.rfilename for s in found.siblings or () if any(Path(s.rfilename).match(w) for w in WANTED)
    )
    large = {s.rfilename: s.lfs.sha256 for s in found.siblings or () if s.lfs}
    lines = [f"{large.get(name) or _sha256_of(repository, found.sha, name)}  {name}\n" for name in files]
    (folder / "sha256sums.txt").write_text("".join(lines))
    path = folder / "weights.env"
    comments = (
        [line for line in path.read_text().splitlines() if line.startswith("#")] if path.exists() else []
    )
    values = (f"WEIGHTS_REPOSITORY={repository}", f"WEIGHTS_REVISION={found.sha}")
    path.write_text("\n".join([*comments, *values, ""]))


def read_sums(text: str) -> dict[str, str]:
    """Read what `sha256sum` writes, as the sum of each name.

    Raises:
        Refused: a line is something else.

    """
    sums = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+(?:/[\w.-]+)*)", line)
        if match is None or ".." in match[2].split("/"):
            raise Refused(f"sha256sums.txt: not a sum and a name: {line!r}")
        sums[match[2]] = match[1]
    return sums


def fetch(repository: str, revision: str, sums: dict[str, str], folder: Path) -> None:
    """Bring the files of `sums` to a folder named like the revision; nothing, where it is there.

    Raises:
        Refused: nothing is pinned, or a file is missing or another; that file is fetched anew the next time.

    """
    if not re.fullmatch("[0-9a-f]{40}", revision) or not int(revision, 16) or not sums:
        raise Refused("nothing is pinned: run `fetch_weights.py pin REPOSITORY` where the hub can be reached")
    whole, partial = folder / revision, folder / f"{revision}.partial"
    if whole.is_dir():
        print(f"{whole} is there")
        return
    snapshot_download(repository, revision=revision, local_dir=partial, allow_patterns=list(sums))
    for name, wanted in sums.items():
        _check(partial / name, wanted)
    partial.rename(whole)
    print(f"{whole} was checked")


def _check(path: Path, wanted: str) -> None:
    if not path.is_file():
        raise Refused(f"{path.name} is not in the repository")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise Refused(f"{path.name} has SHA-256 {found}, not {wanted}")


def _sha256_of(repository: str, revision: str | None, name: str) -> str:
    """Compute the sum of a small file, of which the hub knows only git's own."""
    path = Path(hf_hub_download(repository, name, revision=revision))
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

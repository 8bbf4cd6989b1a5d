"""A checkpoint from the hub to a volume, at one commit, with every file's SHA-256 known beforehand.

    fetch_weights.py pin REPOSITORY [REVISION]   on your machine: write weights.env and sha256sums.txt anew
    fetch_weights.py fetch                       in the job: fill /weights, or end with a reason

A revision's folder gets its own name as the last act: who sees it sees all of it, checked. While the hub is
away, it is asked again and again. Beside the wanted revision stays the one that was wanted before: pods may
read it, and may be rolled back to it.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import re
import shutil
import sys
import time
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

HERE = Path(__file__).parent
WANTED = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
_REVISION = re.compile("[0-9a-f]{40}")
_LEFT_OVER = re.compile(r"[0-9a-f]{40}\.(partial|removed)")
_TOO_MUCH_AT_A_TIME = {408, 429}
_REFUSED_BY_DISK = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS}


class Refused(Exception):
    """The pins are not usable, the hub says no, or a file is not what they say."""


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
    fetching.add_argument("--pause-seconds", type=float, default=60, help="before the hub is asked again")
    given = parser.parse_args()
    try:
        if given.command == "pin":
            pin(given.repository, given.revision, given.folder)
        else:
            sums = read_sums((HERE / "sha256sums.txt").read_text())
            wanted = (os.environ["WEIGHTS_REPOSITORY"], os.environ["WEIGHTS_REVISION"], sums)
            fetch(*wanted, given.folder, given.pause_seconds)
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


def fetch(repository: str, revision: str, sums: dict[str, str], folder: Path, pause_seconds: float) -> None:
    """Bring the files of `sums` to a folder named like the revision; nothing, where it is there.

    Raises:
        Refused: nothing is pinned, the hub says no, or a file is missing or another, which the next time is
            fetched anew.
        OSError: the disk has no room, or may not be written.

    """
    if not _REVISION.fullmatch(revision) or not int(revision, 16) or not sums:
        raise Refused("nothing is pinned: run `fetch_weights.py pin REPOSITORY` where the hub can be reached")
    _tidy(folder, revision)
    whole, partial = folder / revision, folder / f"{revision}.partial"
    if whole.is_dir():
        print(f"{whole} is there")
    else:
        _insist(repository, revision, sums, partial, pause_seconds)
        for name, wanted in sums.items():
            _check(partial / name, wanted)
        partial.rename(whole)
        print(f"{whole} was checked")
    try:
        os.utime(whole)  # when it was wanted: by this the next one finds out which was the one before
    except OSError as error:
        print(f"{whole} keeps its time: {error}")  # somebody else's folder serves all the same


def _insist(
    repository: str, revision: str, sums: dict[str, str], partial: Path, pause_seconds: float
) -> None:
    """Download, and again until all is there: pods wait for it, and an outage of the hub ends."""
    while True:
        try:
            _download(repository, revision, sums, partial)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001  # the client's, HTTP's, storage's: no class has all
            _raise_lasting(error)
            print(f"fetch_weights: again in {pause_seconds:g} s: {error!r}", file=sys.stderr, flush=True)
            time.sleep(pause_seconds)
        else:
            return


def _download(repository: str, revision: str, sums: dict[str, str], partial: Path) -> None:
    """Bring all files, or go on with it."""
    there = {s.rfilename for s in HfApi().model_info(repository, revision=revision).siblings or ()}
    if missing := sorted(sums.keys() - there):
        raise Refused(f"{', '.join(missing)} is not in the repository")
    snapshot_download(repository, revision=revision, local_dir=partial, allow_patterns=list(sums))
    if not all((partial / name).is_file() for name in sums):
        # A hub that went away meanwhile is no error to its client where a folder is there.
        raise ConnectionError("not all files came")


def _raise_lasting(error: Exception) -> None:
    """Raise what would be the same the next time.

    Raises:
        Refused: the hub has said no.
        OSError: the disk has.

    """
    for said in (error, error.__cause__):
        status = getattr(getattr(said, "response", None), "status_code", 0)
        if 400 <= status < 500 and status not in _TOO_MUCH_AT_A_TIME:  # noqa: PLR2004  # HTTP's own classes
            raise Refused(f"the hub says {said}") from error
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_DISK:
        raise error


def _check(path: Path, wanted: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise Refused(f"{path.name} has SHA-256 {found}, not {wanted}")


def _tidy(folder: Path, revision: str) -> None:
    """Remove what is left of downloads, and every revision but the wanted one and the one before it."""
    paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    others = [path for path in paths if _REVISION.fullmatch(path.name) and path.name != revision]
    left_over = [path for path in paths if _LEFT_OVER.fullmatch(path.name)]
    for path in (*left_over, *others[:-1]):
        if path.name != f"{revision}.partial":
            _remove(path)


def _remove(path: Path) -> None:
    """Take its name away, then the rest: who is killed at it leaves no half that passes for whole."""
    nameless = path.with_suffix(".removed")
    try:
        path.rename(nameless)
        shutil.rmtree(nameless)
    except OSError as error:  # NFS keeps the folder of a file that is read; the next job tries again
        print(f"fetch_weights: {path} stays for now: {error}", file=sys.stderr)
    else:
        print(f"{path} was removed")


def _sha256_of(repository: str, revision: str | None, name: str) -> str:
    """Compute the sum of a small file, of which the hub knows only git's own."""
    path = Path(hf_hub_download(repository, name, revision=revision))
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

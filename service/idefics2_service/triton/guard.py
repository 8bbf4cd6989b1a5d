"""Runs one process tree and leaves nothing behind: `python -m idefics2_service.triton.guard`.

The guard stands between the service and the embedded Triton. When its standard input closes, which also
happens when the service is killed with -9, it kills the whole tree (Triton's stubs outlive a killed
server) and removes its shared memory and its folder. It kills without grace: a Triton that is asked to
end takes four seconds, hangs on open streams, and by then the service has ended every answer. Imports
nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Triton puts its regions; we only remove ours

GROUP_FILE = "process-group"


def main() -> int:
    """Run the command until it ends or standard input does; return its exit status."""
    arguments = _parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The service says when, by closing standard input. (A handler, unlike SIG_IGN, is not inherited.)
        signal.signal(number, lambda *_: None)
    tree = subprocess.Popen(  # noqa: S603  # the command line is the service's own
        arguments.command, stdin=subprocess.DEVNULL, start_new_session=True
    )
    (arguments.folder / GROUP_FILE).write_text(str(tree.pid))
    told = threading.Event()
    threading.Thread(target=_kill_at_end_of_input, args=(tree, told), daemon=True).start()
    status = tree.wait()
    clean_up(arguments.folder, arguments.shared_memory_prefix, keep_folder=not told.is_set())
    return status


def clean_up(folder: Path, shared_memory_prefix: str, *, keep_folder: bool = False) -> None:
    """Kill what is left of the tree that runs in `folder`, and remove its shared memory and the folder.

    Also for the service, after a guard that was killed itself. A server that died by itself leaves a folder
    with a log that the service still wants to read.
    """
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.killpg(int((folder / GROUP_FILE).read_text()), signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{shared_memory_prefix}*"):
        region.unlink(missing_ok=True)
    if not keep_folder:
        shutil.rmtree(folder, ignore_errors=True)


def _kill_at_end_of_input(tree: subprocess.Popen[bytes], told: threading.Event) -> None:
    # Past Python's buffer: a daemon thread may not hold its lock when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    told.set()
    with suppress(ProcessLookupError):
        os.killpg(tree.pid, signal.SIGKILL)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared-memory-prefix", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

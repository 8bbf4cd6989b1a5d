"""Runs one process tree and leaves nothing behind: `python -m idefics2_service.triton.guard`.

The guard stands between the service and the embedded Triton. It ends the tree when its standard input
closes, which also happens when the service is killed with -9; it kills what the tree leaves alive
(Triton's stubs outlive a killed server) and removes its shared memory and its folder. A byte on
standard input ends the tree at once, without grace. Imports nothing but the standard library, so that
it starts at once.
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


def main() -> int:
    """Run the command until it ends or standard input does; return its exit status."""
    arguments = _parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The service says when, by closing standard input. (A handler, unlike SIG_IGN, is not inherited.)
        signal.signal(number, lambda *_: None)
    tree = subprocess.Popen(  # noqa: S603  # the command line is the service's own
        arguments.command, stdin=subprocess.DEVNULL, start_new_session=True
    )
    threading.Thread(target=_stop_when_told, args=(tree, arguments.grace_seconds), daemon=True).start()
    status = tree.wait()
    with suppress(ProcessLookupError):
        os.killpg(tree.pid, signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{arguments.shared_memory_prefix}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    return status


def _stop_when_told(tree: subprocess.Popen[bytes], grace_seconds: float) -> None:
    at_once = os.read(sys.stdin.fileno(), 1)
    if not at_once:
        tree.terminate()
        with suppress(subprocess.TimeoutExpired):
            tree.wait(grace_seconds)
    tree.kill()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grace-seconds", type=float, required=True)
    parser.add_argument("--shared-memory-prefix", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

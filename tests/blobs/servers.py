"""A real server of S3, on free ports and in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from ports import HOST, free_port
from processes import PATIENCE_SECONDS, patience

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_ID, SECRET = "test", "0123456789abcdef"
IDENTITIES = {
    "identities": [
        {
            "name": KEY_ID,
            "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}


@contextmanager
def run_s3(volume_mb: int = 64) -> Iterator[dict[str, str]]:
    """Run SeaweedFS, which takes seconds to start; yield the variables that lead to it.

    It has room for several volumes of `volume_mb`.
    """
    folder = Path(tempfile.mkdtemp(prefix="idefics2-blobs-"))
    port = free_port()
    with (folder / "log").open("wb") as log:
        command = _command(folder, port, volume_mb)
        environment = {**os.environ, "TMPDIR": str(folder)}  # where its logs go
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        for _ in patience(f"S3 on port {port}"):
            assert process.poll() is None, (folder / "log").read_text()
            if _answers(port):
                break
        yield {
            "AWS_ENDPOINT": f"http://{HOST}:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
    finally:
        process.kill()  # asked politely, it takes its time
        process.wait(PATIENCE_SECONDS)
        shutil.rmtree(folder)
        _remove_sockets(command)


def _command(folder: Path, port: int, volume_mb: int) -> list[str]:
    """Write how it is started: each of its parts wants a port, and another for gRPC."""
    identities = folder / "identities.json"
    identities.write_text(json.dumps(IDENTITIES))
    data = folder / "data"
    data.mkdir()
    ports = [
        f"-{part}.{kind}={free_port()}"
        for part in ("master", "volume", "filer", "s3")
        for kind in ("port", "port.grpc")
        if (part, kind) != ("s3", "port")
    ]
    return [
        *(str(Path(sys.executable).with_name("weed")), "server", f"-dir={data}", f"-ip={HOST}"),
        *(
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            f"-master.volumeSizeLimitMB={volume_mb}",
            "-filer",
            "-s3",
        ),
        *(f"-s3.config={identities}", f"-s3.port={port}", *ports),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]


def _remove_sockets(command: list[str]) -> None:
    """Remove what it leaves in /tmp when it is killed, named after its ports; not all can be elsewhere."""
    ports = {match[1] for option in command if (match := re.search(r"=(\d+)$", option))}
    for path in Path("/tmp").glob("seaweedfs-*.sock"):  # noqa: S108  # its own choice
        if path.stem.rpartition("-")[2] in ports:
            path.unlink()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/status", timeout=1):
            return True
    except HTTPError:  # it answers, if only by a refusal
        return True
    except (URLError, OSError):
        return False

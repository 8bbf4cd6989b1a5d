"""The pod's two programs on this machine, told what the manifest tells them, but for places and ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from idefics2_service.settings import TritonSettings
from idefics2_service.triton.guard import clean_up
from idefics2_service.triton.server import TritonServer, _free_ports, _make_backend_folder, _wheel
from k8s.manifests import FOLDER, ROOT
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle

_PORTS = ("grpc-port", "http-port", "metrics-port")


@dataclass(frozen=True)
class Triton:
    """The sidecar."""

    process: psutil.Process
    ports: dict[str, int]

    @property
    def engine(self) -> psutil.Process:
        """The engine's own process, below the server."""
        return next(
            p for p in self.process.children(recursive=True) if "engine_program" in " ".join(p.cmdline())
        )

    def ping(self, bundle: Bundle, seconds: str | None = None) -> subprocess.CompletedProcess[str]:
        """Ask as the liveness probe does; `seconds` overrules how long."""
        command = bundle.server.container("triton")["livenessProbe"]["exec"]["command"]
        url = f"http://127.0.0.1:{self.ports['http-port']}"
        given = [sys.executable, str(FOLDER / "base" / Path(command[1]).name), url, seconds or command[3]]
        return subprocess.run(given, capture_output=True, text=True, check=False)


@contextmanager
def run_triton(bundle: Bundle) -> Iterator[Triton]:
    """Run the wheel's server with the container's options, under the guard that leaves nothing behind."""
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    folder = Path(tempfile.mkdtemp(prefix="idefics2-k8s-"))
    prefix = f"idefics2_{os.getpid()}_k8s_"
    container = bundle.server.container("triton")
    moved = {**ports, "model-repository": ROOT / "triton_models"}
    options = [_move(option, moved).replace("=idefics2_", f"={prefix}") for option in container["args"]]
    guard = [sys.executable, "-m", "idefics2_service.triton.guard", "--folder", str(folder)]
    server = [
        str(_wheel() / "bin/tritonserver"),
        *options,
        f"--backend-directory={_make_backend_folder(folder)}",
    ]
    told = {name: value or "" for name, value in bundle.environment(container).items() if name != "HOME"}
    environment = TritonServer(TritonSettings(), {**clean_environment(), **told})._server_environment()
    with (folder / "triton.log").open("wb") as log:
        process = subprocess.Popen(
            [*guard, "--shared-memory-prefix", prefix, "--", *server],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment, "TMPDIR": str(folder)},
            start_new_session=True,
        )
    try:
        yield Triton(psutil.Process(process.pid), ports)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        clean_up(folder, prefix)


@contextmanager
def run_front(
    bundle: Bundle, folder: Path, triton: Triton
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """Run the front with the container's arguments and settings; yield it, and its ports by name."""
    ports = dict(zip(("grpc", "http"), _free_ports(2), strict=True))
    container = bundle.server.container("front")
    told = {name: value or "" for name, value in bundle.environment(container).items()}
    moved = {
        "IDEFICS2_GRPC_PORT": str(ports["grpc"]),
        "IDEFICS2_HTTP_PORT": str(ports["http"]),
        "IDEFICS2_TRITON_URL": f"127.0.0.1:{triton.ports['grpc-port']}",
        "IDEFICS2_API_KEYS_FILE": str(folder / "keys.json"),
        "IDEFICS2_DATA_FOLDER": str(folder / "data"),
        "IDEFICS2_GRPC_DRAIN_DELAY_SECONDS": "0",  # nobody balances here
    }
    assert moved.keys() <= told.keys()
    environment = {**clean_environment(), **told, **moved}
    program = (sys.executable, "-m", "idefics2_service")
    create = (*program, "keys", "create", "--id", "anna")
    subprocess.run(create, env=environment, check=True, capture_output=True)
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen([*program, *container["args"]], env=environment, stderr=log)
    try:
        yield process, ports
    finally:
        process.kill()
        process.wait()


def _move(option: str, moved: dict[str, object]) -> str:
    match = re.fullmatch("--([a-z-]+)=(.*)", option)
    return f"--{match[1]}={moved[match[1]]}" if match and match[1] in moved else option

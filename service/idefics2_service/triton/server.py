"""The embedded Triton: the real tritonserver of the wheel, with this repository's model."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog
from tritonclient.grpc import service_pb2, service_pb2_grpc

from idefics2_service.errors import StartFailed
from idefics2_service.settings import ENGINE_PREFIX, PREFIX
from idefics2_service.triton.guard import clean_up
from idefics2_service.triton.server_log import ServerLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idefics2_service.settings import TritonSettings

logger = structlog.get_logger(__name__)

SECONDS_BETWEEN_PROBES = 0.05
NVIDIA_DEVICE = Path("/dev/nvidiactl")
OPTIONS_WITHOUT_GPU = ("--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0")
# The python backend as the wheel carries it, in pieces: library, utilities, and a stub for each Python.
_BACKEND_FILES = (
    "backends/python/libtriton_python.so",
    "backends/python/triton_python_backend_utils.py",
    f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub",
)
_CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)  # those that the environment names lead outside
_HANDED_ON = re.compile(
    r"PATH|HOME|TMPDIR|USER|LOGNAME|TZ|LANG|LANGUAGE|GLIBC_TUNABLES|(LC|LD|MALLOC|XDG)_.*|PYTHON.*|"
    r"CC|CXX|CPATH|LIBRARY_PATH|"  # kernels are compiled where they run
    r"(CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|TORCH|PYTORCH|TRITON|ATEN|DNNL|ONEDNN|OMP|GOMP|KMP|MKL|OPENBLAS).*|"
    r"(NPY|PILLOW|RAYON|HF|HUGGINGFACE|TRANSFORMERS|TOKENIZERS|SAFETENSORS)_.*|"
    r"(?i:(HTTPS?|ALL|NO)_PROXY)|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|"  # on the way to the hub
    rf"{ENGINE_PREFIX}.*|{PREFIX}LOG_LEVEL"
)
"""What the embedded Triton gets of our environment: all that it, the model or a library of theirs may read.
Who is given strangers' prompts and pictures is not handed the service's keys."""


def hand_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the service's environment is for the embedded Triton: no key or password of its own."""
    return {name: value for name, value in environ.items() if _HANDED_ON.fullmatch(name)}


class TritonServer:
    """One tritonserver on loopback with the model loaded; can be started again after it was stopped."""

    def __init__(self, settings: TritonSettings, environment: Mapping[str, str]) -> None:
        """Set up, start nothing; the server sees `environment`, and where this Python is."""
        self._settings = settings
        self._environment = environment
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._log: ServerLog | None = None
        self._prefix = ""
        """Of the regions of shared memory; empty: neither they nor the folder are there."""

    async def start(self) -> str:
        """Start it, wait until the model answers, and return `host:port` of its gRPC endpoint.

        Raises:
            StartFailed: something it needs is missing, it died, or it took longer than
                `start_timeout_seconds`.

        """
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="idefics2-triton-"))
            self._prefix = f"idefics2_{os.getpid()}_{secrets.token_hex(4)}_"
            grpc_port, http_port, free_port = _free_ports(3)
            metrics_port = self._settings.metrics_port or free_port
            url = f"127.0.0.1:{grpc_port}"
            self._log = ServerLog(self._folder / "triton.log")
            self._launch(
                self._folder,
                self._log,
                [f"--grpc-port={grpc_port}", f"--http-port={http_port}", f"--metrics-port={metrics_port}"],
            )
            metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
            logger.info("starting triton", log=str(self._log.path), url=url, metrics=metrics_url)
            self._log.follow()
            await self._wait_until_ready(url)
        except OSError as error:
            await self.stop()
            raise StartFailed(f"tritonserver cannot be started: {error}") from error
        except StartFailed:
            await self.stop()
            raise
        return url

    def read_log_tail(self) -> str:
        """Return the last lines that it wrote: the log goes away with the server."""
        return "" if self._log is None else self._log.read_tail()

    def _launch(self, folder: Path, log: ServerLog, options: list[str]) -> None:
        """Start the processes."""
        guard = [
            *(sys.executable, "-m", "idefics2_service.triton.guard", "--folder", str(folder)),
            *("--shared-memory-prefix", self._prefix),
        ]
        server = [
            str(_wheel() / "bin/tritonserver"),
            f"--model-repository={_find_repository(self._settings.model_repository)}",
            f"--backend-directory={_make_backend_folder(folder)}",
            *("--disable-auto-complete-config", "--model-control-mode=explicit"),
            f"--load-model={self._settings.model_name}",
            *("--grpc-address=127.0.0.1", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1"),
            *options,
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            f"--backend-config=python,stub-timeout-seconds={int(self._settings.start_timeout_seconds)}",
            *([] if NVIDIA_DEVICE.exists() else OPTIONS_WITHOUT_GPU),
        ]
        with log.path.open("wb") as output:
            # Not asyncio's: that one forks, which gRPC's threads do not like.
            self._guard = subprocess.Popen(  # noqa: S603  # all of it is ours
                [*guard, "--", *server],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._server_environment(),
                start_new_session=True,
            )

    async def stop(self) -> None:
        """End it at once, with all its processes, shared memory and files."""
        guard, self._guard = self._guard, None
        prefix, self._prefix = self._prefix, ""
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            await asyncio.to_thread(guard.wait)
        log, self._log = self._log, None
        if log is not None:
            await log.close()
        if prefix:
            clean_up(self._folder, prefix)

    async def _wait_until_ready(self, url: str) -> None:
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                while not await self._is_ready(url):  # noqa: ASYNC110  # nothing tells us
                    await asyncio.sleep(SECONDS_BETWEEN_PROBES)
        except (TimeoutError, StartFailed) as error:
            reason = str(error) or f"it was not ready after {self._settings.start_timeout_seconds:g} s"
            tail = self.read_log_tail()
            raise StartFailed(f"tritonserver did not start: {reason}. It said:\n{tail}") from error

    async def _is_ready(self, url: str) -> bool:
        if self._guard is None or self._guard.poll() is not None:
            raise StartFailed("it ended")
        async with grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = service_pb2.ModelReadyRequest(name=self._settings.model_name)
            try:
                return bool((await stub.ModelReady(request, timeout=1)).ready)
            except grpc.aio.AioRpcError:
                return False

    def _server_environment(self) -> dict[str, str]:
        """Let the stub find this Python: its packages by PATH, its library by LD_LIBRARY_PATH."""
        library_folders = [str(_libpython_folder()), self._environment.get("LD_LIBRARY_PATH", "")]
        return {
            **self._environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{self._environment.get('PATH', '')}",
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, library_folders)),
            "TMPDIR": str(self._folder),  # so that what libraries put there goes away too
        }


def _wheel() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        message = (
            "the embedded Triton is not installed: pip install '.[service,embedded]' in a checkout, "
            "or set IDEFICS2_TRITON_URL to a Triton that runs elsewhere"
        )
        raise StartFailed(message)
    return Path(spec.origin).parent / "tritonserver"


def _make_backend_folder(folder: Path) -> Path:
    """Lay the python backend's pieces beside each other, as links: copies would not find their libraries."""
    python = folder / "backends/python"
    python.mkdir(parents=True)
    for name in _BACKEND_FILES:
        piece = _wheel() / name
        if not piece.exists():
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            message = f"the embedded Triton has no {piece.name} for Python {version}; use Python 3.11"
            raise StartFailed(message)
        (python / piece.name).symlink_to(piece)
    return python.parent


def _find_repository(configured: Path | None) -> Path:
    repository = configured or Path(__file__).parents[3] / "triton_models"
    if not (repository / "idefics2/config.pbtxt").is_file():
        message = f"IDEFICS2_TRITON_MODEL_REPOSITORY: there is no model idefics2 in {repository}"
        raise StartFailed(message)
    return repository.resolve()


def _libpython_folder() -> Path:
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not (Path(folder) / name).exists() or not name.endswith((".so", ".so.1.0")):
        message = (
            f"the embedded Triton needs Python's shared library, and {folder}/{name} is not one: install it "
            "(Debian: libpython3.11) or use a Python that was built with --enable-shared"
        )
        raise StartFailed(message)
    return Path(folder)


def _free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports

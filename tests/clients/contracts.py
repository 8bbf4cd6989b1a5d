"""The wire contract as it once was: `python -m clients.contracts VERSION` keeps that of the last commit."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "released"
_PACKAGE = "idefics2.v1"
_SERVICES = ("GenerationService", "RequestService", "FileService")
_PROTOS = "proto/idefics2/v1"


class Contract:
    """The messages and methods of one folder, beside today's in the same process."""

    def __init__(self, name: str) -> None:
        """Compile the folder of this name."""
        self.name = name
        self._pool = descriptor_pool.DescriptorPool()
        for file in compile_protos(FOLDER / name).file:
            self._pool.Add(file)

    @property
    def services(self) -> list[ServiceDescriptor]:
        """Those that there were."""
        found = []
        for name in _SERVICES:
            with suppress(KeyError):
                found.append(self._pool.FindServiceByName(f"{_PACKAGE}.{name}"))
        return found

    def make(self, kind: str, **fields: Any) -> Any:
        """Write a message of this kind."""
        return GetMessageClass(self._pool.FindMessageTypeByName(f"{_PACKAGE}.{kind}"))(**fields)

    def call(self, channel: grpc.aio.Channel, path: str) -> Any:
        """Return what calls a method, for example `GenerationService.Generate`, as its stub did."""
        method: MethodDescriptor = self._pool.FindMethodByName(f"{_PACKAGE}.{path}")
        make = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
        }[method.client_streaming, method.server_streaming]
        return make(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=write,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )


def write(message: Message) -> bytes:
    """Write a message of any contract."""
    return message.SerializeToString()


def find_contracts() -> list[str]:
    """Name all that are kept."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def compile_protos(folder: Path) -> descriptor_pb2.FileDescriptorSet:
    """Compile what a folder holds, and what that imports."""
    files = sorted(str(path) for path in folder.rglob("*.proto"))
    library = Path(grpc_tools.__file__).parent / "_proto"
    with TemporaryDirectory() as place:
        made = Path(place) / "contract.binpb"
        options = (f"-I{folder}", f"-I{library}", "--include_imports", f"--descriptor_set_out={made}")
        assert protoc.main(("protoc", *options, *files)) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())


def keep(name: str, commit: str = "HEAD") -> None:
    """Keep the contract of a commit under a name."""
    for path in _ask_git("ls-tree", "--name-only", commit, f"{_PROTOS}/").splitlines():
        if path.endswith(".proto"):
            kept = FOLDER / name / Path(path).relative_to("proto")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(_ask_git("show", f"{commit}:{path}"), encoding="utf-8")
    with (FOLDER / "README.md").open("a", encoding="utf-8") as table:
        table.write(f"| `{name}` | {_ask_git('rev-parse', commit)[:8]} | |\n")


def _ask_git(*arguments: str) -> str:
    asked = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=True)
    return asked.stdout


if __name__ == "__main__":
    keep(*sys.argv[1:])

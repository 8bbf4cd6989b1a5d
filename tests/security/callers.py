"""Everything that can be called, with secrets in every field that takes a text."""

from __future__ import annotations

import asyncio
import base64
import http.client
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from idefics2.v1 import (
    files_pb2,
    files_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    requests_pb2,
    requests_pb2_grpc,
)
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from security.canaries import Canaries

SERVICES = {
    "GenerationService": generation_pb2_grpc.GenerationServiceStub,
    "RequestService": requests_pb2_grpc.RequestServiceStub,
    "FileService": files_pb2_grpc.FileServiceStub,
    "Operations": operations_pb2_grpc.OperationsStub,
}
DESCRIPTORS = (
    generation_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    requests_pb2.DESCRIPTOR.services_by_name["RequestService"],
    files_pb2.DESCRIPTOR.services_by_name["FileService"],
    operations_pb2.DESCRIPTOR.services_by_name["Operations"],
)


@dataclass
class Caller:
    """Somebody with a key, who remembers what was called and what was told."""

    channel: grpc.aio.Channel
    key: str
    told: list[bytes] = field(default_factory=list)
    """Every answer and every error, as it came."""
    errors: list[bytes] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)

    async def call(self, name: str, message: Any, **metadata: str) -> Any:
        """Call a method by `Service.Method`; return its answer, the last of a stream, or None at an error."""
        service, _, method = name.partition(".")
        self.methods.add(name)
        stub = getattr(SERVICES[service](self.channel), method)
        given = [
            ("authorization", f"Key {self.key}"),
            *((k.replace("_", "-"), v) for k, v in metadata.items()),
        ]
        call = stub(message, metadata=given, timeout=30)
        try:
            answer = await _read(call, self.told)
        except grpc.aio.AioRpcError as error:
            self._remember(error)
            return None
        return answer

    def _remember(self, error: grpc.aio.AioRpcError) -> None:
        trailers: Any = error.trailing_metadata() or ()
        values = [value if isinstance(value, bytes) else value.encode() for _, value in trailers]
        text = b" ".join([str(error.details()).encode(), str(error.debug_error_string()).encode(), *values])
        self.told.append(text)
        self.errors.append(text)


async def _read(call: Any, told: list[bytes]) -> Any:
    """Read an answer or a stream of them."""
    if not hasattr(call, "__aiter__"):
        answer = await call
        told.append(answer.SerializeToString())
        return answer
    answer = None
    async for answer in call:
        told.append(answer.SerializeToString())
    return answer


@dataclass(frozen=True)
class Secrets:
    """The canaries, put into requests."""

    words: Canaries
    host: str
    """`address:port` of who has pictures and takes webhooks."""

    @property
    def image_url(self) -> str:
        """A signed URL."""
        return f"http://{self.host}/{self.words.url_path}.png?X-Signature={self.words.url_signature}"

    @property
    def hook_url(self) -> str:
        """A webhook with a token in it."""
        return f"http://{self.host}/{self.words.hook_path}?token={self.words.hook_token}"

    @property
    def picture(self) -> bytes:
        """A picture with a secret behind it."""
        return red_circle() + self.words.picture.encode()

    def request(self, **fields: Any) -> generation_pb2.GenerateRequest:
        """Ask about a picture, secretly."""
        given = {"prompt": self.words.prompt, "stop": [self.words.stop], "temperature": 0, **fields}
        if not fields.keys() & {"image_url", "images", "image_sha256"}:
            given["images"] = [generation_pb2.Image(data=self.picture)]
        return generation_pb2.GenerateRequest(**given)

    def upload(self, *, size_bytes: int | None = None) -> Iterator[files_pb2.UploadRequest]:
        """Upload a picture, or break off because it has another size."""
        data = self.picture
        yield files_pb2.UploadRequest(
            start=files_pb2.UploadStart(
                name=self.words.file_name, upload_id=self.words.upload_id, size_bytes=size_bytes or len(data)
            )
        )
        yield files_pb2.UploadRequest(chunk=data)

    def bad_requests(self) -> list[generation_pb2.GenerateRequest]:
        """Make requests that are refused, each with a secret near what is wrong."""
        words, host = self.words, self.host
        path = f"{words.url_path}?{words.url_signature}"
        packed = base64.b64encode(words.data_uri.encode()).decode()
        return [
            self.request(prompt=words.special),
            self.request(prompt=words.prompt * 2_000),
            self.request(max_new_tokens=0),
            self.request(stop=[words.stop] * 9),
            self.request(image_url=f"http://{words.url_user}:{words.url_user}@{host}/{path}"),
            self.request(image_url=f"http://127.0.0.1/{path}"),
            self.request(image_url=f"http://{host}1/{path}"),
            self.request(image_url=f"http://{words.url_path}.invalid/{path}".replace("canary-path.", "x.")),
            self.request(image_url=f"ftp://{words.url_user}@{host}/{path}"),
            self.request(image_url=f"/{path}"),
            self.request(image_url=f"data:image/png;base64,{packed}*"),
            self.request(image_url=f"data:image/png;base64,{packed}"),
            self.request(image_url=f"data:image/png,{quote(words.data_uri)}"),
            self.request(images=[generation_pb2.Image(data=words.picture.encode())]),
            self.request(images=[generation_pb2.Image(data=red_circle()[:20] + words.picture.encode())]),
            self.request(image_sha256="0" * 64),
            self.request(image_sha256=words.query),
            self.request(image_url=f"idefics2://files/{words.query}"),
        ]


async def call_requests(caller: Caller, request_id: str) -> None:
    """Make every call about one submitted request, of the caller or of another."""
    for method in ("GetRequest", "WatchRequest", "GetResult", "CancelRequest"):
        message = getattr(requests_pb2, f"{method}Request")(request_id=request_id)
        await caller.call(f"RequestService.{method}", message)
    for method in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"):
        message = getattr(operations_pb2, f"{method}Request")(name=f"operations/{request_id}")
        await caller.call(f"Operations.{method}", message)
    await caller.call("RequestService.ListRequests", requests_pb2.ListRequestsRequest())
    await caller.call("Operations.ListOperations", operations_pb2.ListOperationsRequest())


async def call_files(caller: Caller, secrets: Secrets, file_id: str) -> None:
    """Make every call about one uploaded file, of the caller or of another."""
    for method in ("GetFile", "DownloadFile"):
        message = getattr(files_pb2, f"{method}Request")(id=file_id)
        await caller.call(f"FileService.{method}", message)
    await caller.call("FileService.GetUpload", files_pb2.GetUploadRequest(upload_id=secrets.words.upload_id))
    await caller.call("FileService.ListFiles", files_pb2.ListFilesRequest())
    for fields in ({"image_url": f"idefics2://files/{file_id}"}, {"image_sha256": file_id * 2}):
        await caller.call("GenerationService.Generate", secrets.request(**fields))


async def call_badly(caller: Caller, secrets: Secrets) -> None:
    """Make every call that takes more than a name, and that fails."""
    words = secrets.words
    for request in secrets.bad_requests():
        for method in ("Generate", "GenerateStream", "CountTokens"):
            await caller.call(f"GenerationService.{method}", request)
        await caller.call("RequestService.Submit", requests_pb2.SubmitRequest(input=request))
    for url in (f"ftp://{secrets.host}/{words.hook_path}", f"http://10.0.0.1/?{words.hook_token}"):
        message = requests_pb2.SubmitRequest(input=secrets.request(), webhook_url=url)
        await caller.call("RequestService.Submit", message)
    await caller.call("FileService.Upload", secrets.upload(size_bytes=3))
    await caller.call("FileService.DeleteFile", files_pb2.DeleteFileRequest(sha256=words.query))
    await caller.call("FileService.ListFiles", files_pb2.ListFilesRequest(page_token=words.query))
    call = caller.channel.unary_unary(f"/idefics2.v1.GenerationService/{words.method}", None, None)
    with suppress(grpc.aio.AioRpcError):
        await call(words.prompt.encode(), metadata=[("authorization", f"Key {caller.key}")])
    call = caller.channel.unary_unary("/idefics2.v1.GenerationService/Generate", None, None)
    with suppress(grpc.aio.AioRpcError):
        await call(b"\xff" + words.prompt.encode(), metadata=[("authorization", f"Key {caller.key}")])


async def get(address: str, path: str, **headers: str) -> bytes:
    """Read a page of the HTTP port, whatever its status."""

    def read() -> bytes:
        with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return str(response.getheaders()).encode() + response.read()

    return await asyncio.to_thread(read)

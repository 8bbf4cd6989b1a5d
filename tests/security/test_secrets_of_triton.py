"""No prompt, picture, answer or key reaches what the embedded Triton, the model and the engine write.

Nor does any secret of the service's environment reach theirs.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from idefics2_service.settings import describe
from idefics2_service.triton.server import hand_on
from idefics2_service.triton.tensors import RequestWriter
from pictures import draw_red_circle, encode
from processes import EmbeddedTriton, Started, program_name, running_service
from security.callers import Caller, Secrets, call_badly
from security.canaries import Canaries, find
from streams import read_until
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tritonclient.grpc import service_pb2

SECRETS = Secrets(Canaries(), "127.0.0.1:9")
WORDS = SECRETS.words
PLANTED = "planted-where-it-is-told"
PATIENCE_SECONDS = 30
SECRET = "swordfish"
HELD = {
    "IDEFICS2_API_KEY": f"anna.{SECRET}-{SECRET}-{SECRET}-{SECRET}",
    "IDEFICS2_WEBHOOK_SIGNING_KEY": base64.b64encode(SECRET.encode().ljust(32)).decode(),
    "IDEFICS2_HTTP_PUBLIC_URL": f"https://{SECRET}.example",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
    "DATABASE_URL": f"postgres://anna:{SECRET}@db.example/",
}
"""Variables that are the service's alone, or none of ours."""
NEEDED = {
    "IDEFICS2_LOG_LEVEL": "debug",
    "IDEFICS2_MODEL_MAX_RUNNING": "63",
    "HOME": "/home/anna",
    "LC_ALL": "C.UTF-8",
    "OMP_WAIT_POLICY": "passive",
    "MKL_CBWR": "COMPATIBLE",
    "CUDA_VISIBLE_DEVICES": "0",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "TORCHINDUCTOR_CACHE_DIR": "/home/anna/kernels",
    "HF_HOME": "/home/anna/hub",
    "https_proxy": "http://proxy.example:3128",
    "no_proxy": "127.0.0.1",
}
"""What programs of the model's kind may be told by."""
ENDLESS = {"temperature": 10, "top_p": 1, "max_new_tokens": 1500, "min_new_tokens": 1500}


def make_damaged() -> Iterator[bytes]:
    """Make a picture of each format that has a header, and a secret where its pixels should be."""
    secret = (WORDS.picture * 10).encode()[:100]
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
        picture = encode(draw_red_circle(), kind, lossless=True, compression="tiff_lzw")
        yield picture[:60] + secret + picture[160:]


@dataclass
class Written:
    """All that Triton, the model and the engine wrote while they were used."""

    key: str
    log: bytes
    metrics: bytes
    environments: list[tuple[str, dict[str, str]]]
    """Of each process, the name of its program and what it was started with."""

    @property
    def words(self) -> dict[str, str]:
        """What stands in it nowhere, by name."""
        return {**asdict(WORDS), "key": self.key.partition(".")[2]}


@pytest.fixture(scope="module")
async def written(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Written]:
    """What the Triton of a service wrote that was used well and badly, and past the service, too."""
    with running_service(tmp_path_factory.mktemp("secrets"), **HELD, **NEEDED) as service:
        started = Started(service, await asyncio.to_thread(service.wait_until_ready))
        (triton,) = started.tritons
        environments = [(program_name(process), process.environ()) for process in service.tree()]
        await use_service(started)
        await use_triton(triton)
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(triton.metrics_url)).content
        log = await asyncio.to_thread(triton.log.read_bytes)
        yield Written(started.ready.api_key, log, metrics, environments)


async def use_service(started: Started) -> None:
    """Ask well; ask what is refused, by the service and by the model; and leave in mid-answer."""
    async with grpc.aio.insecure_channel(started.ready.grpc) as channel:
        anna = Caller(channel, started.ready.api_key)
        for method in ("Generate", "GenerateStream", "CountTokens"):
            assert await anna.call(f"GenerationService.{method}", SECRETS.request(), x_request_id=PLANTED)
        await call_badly(anna, SECRETS)
        bad = [SECRETS.request(images=[generation_pb2.Image(data=data)]) for data in make_damaged()]
        for request in (*bad, SECRETS.request(max_new_tokens=2048)):
            assert await anna.call("GenerationService.Generate", request) is None
            assert await anna.call("GenerationService.GenerateStream", request) is None
        stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        call = stub.GenerateStream(
            SECRETS.request(**ENDLESS), metadata=(("authorization", f"Key {anna.key}"),)
        )
        await read_until(call, "text_delta")
        call.cancel()


def write_badly() -> Iterator[service_pb2.ModelInferRequest]:
    """Write requests that Triton or the model refuses, as only plain callers of Triton may make them."""
    secret, picture = WORDS.prompt.encode(), SECRETS.picture

    def ask() -> RequestWriter:
        return RequestWriter("idefics2", PLANTED).texts("prompt", secret)

    yield ask().texts("image", picture).texts("stop", WORDS.stop.encode() + b"\xff").message
    yield ask().texts("image", WORDS.picture.encode()).message
    yield ask().texts("image", picture).numbers("temperature", "FP64", -1).message
    yield ask().texts("image", picture, picture).texts("operation", WORDS.query.encode()).message
    yield ask().texts("image", picture).texts(WORDS.query, secret).message
    yield ask().numbers("image", "INT32", 1).message
    yield RequestWriter("idefics2", PLANTED).texts("prompt", secret + b"\xff").texts("image", picture).message
    yield RequestWriter("idefics2", PLANTED).texts("prompt", WORDS.special.encode()).message
    yield RequestWriter(WORDS.method, PLANTED).texts("prompt", secret).message
    for damaged in make_damaged():
        yield ask().texts("image", damaged).message


async def use_triton(triton: EmbeddedTriton) -> None:
    """Call it past the service, badly: each request is refused."""
    async with grpc.aio.insecure_channel(triton.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for message in write_badly():
            async with asyncio.timeout(PATIENCE_SECONDS):
                answers = [answer async for answer in stub.ModelStreamInfer(iter([message]))]
            last = answers[-1]
            assert last.error_message or b'"Failed"' in b"".join(last.infer_response.raw_output_contents)


def test_no_secret_stands_in_the_log_of_triton(written: Written) -> None:
    assert find(written.words, written.log) == set()


def test_no_secret_stands_in_the_metrics_of_triton(written: Written) -> None:
    assert b"nv_inference_request_success" in written.metrics
    assert b"idefics2_engine_requests_failed_total" in written.metrics
    assert find(written.words, written.metrics) == set()


def test_the_scan_finds_what_was_planted_in_the_log_of_triton(written: Written) -> None:
    assert find({"planted": PLANTED}, written.log) == {"planted"}


def test_no_process_of_triton_is_handed_what_is_the_services_alone(written: Written) -> None:
    programs = {program for program, _ in written.environments}
    assert programs >= {"tritonserver", "triton_python_backend_stub"}
    for program, environment in written.environments:
        assert environment.keys() & HELD.keys() == set(), program
        assert find({"secret": SECRET}, "\n".join(environment.values()).encode()) == set(), program


def test_triton_and_the_model_are_handed_what_they_need(written: Written) -> None:
    for program, environment in written.environments:
        if "triton" in program:
            assert environment.items() >= NEEDED.items(), program


def test_no_setting_of_the_service_is_handed_on_but_those_that_the_engine_reads() -> None:
    settings = {name: "x" for name, _, _ in describe()}
    engine = {"IDEFICS2_MODEL_DEVICE": "cpu", "IDEFICS2_MODEL_CHECKPOINT": "x"}
    assert hand_on({**settings, **engine, "PATH": "/bin"}) == {
        **engine,
        "IDEFICS2_LOG_LEVEL": "x",
        "PATH": "/bin",
    }

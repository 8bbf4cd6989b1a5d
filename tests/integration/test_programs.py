"""Real programs against the real service: the command line, buf, a plain Triton client."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from processes import Started

ROOT = Path(__file__).parents[2]


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    variables = {**os.environ, **options.pop("variables", {})}  # type: ignore[dict-item]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command,
        env=variables,
        text=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        **options,
    )


def ask(started: Started, image: str, *options: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run `idefics2 ask`."""
    command = (
        sys.executable,
        "-m",
        "idefics2_client",
        "ask",
        image,
        DESCRIBE,
        "--temperature",
        "0",
        *options,
    )
    return run(*command, variables=started.variables, **more)


def test_ask_answers_about_a_file(started: Started, picture: Path) -> None:
    done = ask(started, str(picture))
    assert (done.returncode, done.stdout) == (0, RED_CIRCLE + "\n"), done.stderr
    assert "prefill" in done.stderr


def test_ask_answers_about_a_data_uri_in_json(started: Started) -> None:
    done = ask(started, "data:image/png;base64," + base64.b64encode(red_circle()).decode(), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == RED_CIRCLE


def test_ask_names_what_is_refused(started: Started) -> None:
    done = ask(started, "http://127.0.0.1/cat.png")
    assert done.returncode == 2
    assert "image_url" in done.stderr
    assert "not public" in done.stderr


def test_reflection_lists_the_services_and_buf_calls_one(started: Started) -> None:
    buf = str(Path(sys.executable).parent / "buf")
    curl = (buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge")
    address = f"http://{started.ready.grpc}"
    listed = run(*curl, "--list-methods", address)
    assert listed.returncode == 0, listed.stderr
    methods = set(listed.stdout.split())
    assert {
        "idefics2.v1.GenerationService/Generate",
        "idefics2.v1.GenerationService/GenerateStream",
        "idefics2.v1.GenerationService/CountTokens",
        "idefics2.v1.RequestService/Submit",
        "google.longrunning.Operations/GetOperation",
        "grpc.health.v1.Health/Check",
    } <= methods
    request = {
        "prompt": DESCRIBE,
        "temperature": 0,
        "images": [{"data": base64.b64encode(red_circle()).decode()}],
    }
    key = f"authorization: Key {started.ready.api_key}"
    url = f"{address}/idefics2.v1.GenerationService/Generate"
    called = run(*curl, "-H", key, "-d", "@-", url, input=json.dumps(request))
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["output"] == RED_CIRCLE


def test_a_plain_triton_client_needs_no_front(started: Started, picture: Path) -> None:
    example = str(ROOT / "clients/examples/triton_direct.py")
    done = run(sys.executable, example, started.tritons[-1].url, str(picture), DESCRIBE)
    assert (done.returncode, done.stdout) == (0, RED_CIRCLE + "\n"), done.stderr


def test_a_plain_triton_client_is_told_what_is_wrong(started: Started, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("I am no picture.")
    done = run(
        sys.executable,
        str(ROOT / "clients/examples/triton_direct.py"),
        started.tritons[-1].url,
        str(text),
        DESCRIBE,
    )
    assert done.returncode == 1
    assert "FILE_NOT_AN_IMAGE: images[0] is not a picture" in done.stderr


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"IDEFICS2_GRPC_PROT": "1"}, "IDEFICS2_GRPC_PROT is not a setting"),
        ({"IDEFICS2_GRPC_PORT": "70000"}, "IDEFICS2_GRPC_PORT"),
        ({"IDEFICS2_API_KEY": "short"}, "IDEFICS2_API_KEY"),
        ({"IDEFICS2_TRITON_MODEL_REPOSITORY": "/nowhere"}, "IDEFICS2_TRITON_MODEL_REPOSITORY"),
        (
            {"IDEFICS2_MODEL_CHECKPOINT": "/nowhere"},
            "IDEFICS2_MODEL_CHECKPOINT: there is no folder '/nowhere'",
        ),
        ({"IDEFICS2_MODEL_SIZE": "1"}, "IDEFICS2_MODEL_SIZE is not a setting of the engine"),
        ({"IDEFICS2_MODEL_MAX_RUNNING": "many"}, "IDEFICS2_MODEL_MAX_RUNNING must be a whole number"),
    ],
)
def test_a_bad_setting_ends_the_start_is_named_and_leaves_nothing(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    variables = {"IDEFICS2_DATA_FOLDER": str(tmp_path / "data"), "TMPDIR": str(temporary), **variables}
    serve = (sys.executable, "-m", "idefics2_service", "serve", "--http-port", "0")
    options = () if "IDEFICS2_GRPC_PORT" in variables else ("--grpc-port", "0")
    done = run(*serve, *options, variables=variables)
    assert done.returncode in {1, 2}
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


def test_a_taken_port_is_named(started: Started, tmp_path: Path) -> None:
    port = started.ready.grpc.rpartition(":")[2]
    serve = (sys.executable, "-m", "idefics2_service", "serve", "--http-port", "0", "--grpc-port", port)
    done = run(*serve, variables={"IDEFICS2_DATA_FOLDER": str(tmp_path)})
    assert done.returncode == 1
    assert "IDEFICS2_GRPC_PORT" in done.stderr

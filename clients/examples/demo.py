"""The main job, from nothing: start the service, ask about pictures, check the answers, stop.

    make demo

Runs the same commands that a person would type. The model is the small checkpoint that ships with the
repository; it knows shapes, colors and numbers, and says so when it is asked about anything else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
QUESTIONS = (
    ("japan.png", "Describe the image.", "A red circle on a white background."),
    ("switzerland.png", "What shape is this?", "Cross."),
    ("switzerland.png", "What color is the background?", "Red."),
    ("vietnam.png", "Is there a yellow star?", "Yes."),
    ("vietnam.png", "What color is the circle?", "There is no circle."),
    ("stars.png", "How many stars are there?", "3."),
    ("door.png", "What number is this?", "42."),
    ("note.png", "What digit is this?", "3."),
    ("cat.jpg", "Describe the image.", "I see no shapes or text."),
    (
        "cat.jpg",
        "What is the capital of France?",
        "I can only answer questions about shapes, colors, numbers and words.",
    ),
)
MAX_START_SECONDS = 120


def main() -> int:
    """Run the demo; return 0 if every answer was true."""
    with tempfile.TemporaryDirectory(prefix="idefics2-demo-") as folder:
        ready_file, log = Path(folder, "ready.json"), Path(folder, "service.log")
        print("$ idefics2-service serve", flush=True)
        started = time.monotonic()
        with log.open("w") as output:
            service = subprocess.Popen(
                [
                    *(sys.executable, "-m", "idefics2_service", "serve", "--ready-file", str(ready_file)),
                    *("--grpc-port", "0", "--http-port", "0"),
                ],
                env={**os.environ, "IDEFICS2_DATA_FOLDER": folder},
                stderr=output,
            )
        try:
            ready = wait_until_ready(service, ready_file)
            print(f"ready after {time.monotonic() - started:.1f} s on {ready['grpc']}\n", flush=True)
            wrong = sum(not ask(ready, *question) for question in QUESTIONS)
        except RuntimeError as error:
            print(f"{error}:\n{log.read_text()}", file=sys.stderr)
            return 1
        finally:
            service.terminate()
            service.wait()
    print("stopped; every answer was true" if not wrong else f"stopped; {wrong} answers were not true")
    return 1 if wrong else 0


def wait_until_ready(service: subprocess.Popen[bytes], ready_file: Path) -> dict[str, str]:
    """Return what the ready file says.

    Raises:
        RuntimeError: the service ended, or takes too long.

    """
    give_up = time.monotonic() + MAX_START_SECONDS
    while not ready_file.exists():
        if service.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("the service did not start")
        time.sleep(0.05)
    facts: dict[str, str] = json.loads(ready_file.read_text())
    return facts


def ask(ready: dict[str, str], image: str, prompt: str, truth: str) -> bool:
    """Ask one question on the command line; tell whether the answer is true."""
    print(f'$ idefics2 ask {image} "{prompt}"', flush=True)
    program = (sys.executable, "-m", "idefics2_client", "ask")
    command = (*program, str(IMAGES / image), prompt, "--temperature", "0")
    variables = {"IDEFICS2_CLIENT_TARGET": ready["grpc"], "IDEFICS2_API_KEY": ready["api_key"]}
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    is_true = done.stdout.strip() == truth
    print(done.stdout.strip() or done.stderr.strip())
    print("" if is_true else f"  NOT TRUE: it should say {truth!r}\n", flush=True)
    return is_true


if __name__ == "__main__":
    sys.exit(main())

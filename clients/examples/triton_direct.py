"""Asks the model without the front: any plain Triton client can.

    pip install 'tritonclient[grpc]' numpy
    python clients/examples/triton_direct.py 127.0.0.1:8001 cat.png "What is on the sofa?"

Prints the answer as it is written. Inputs that are left out have their defaults; bounds and errors are
those of the API, told in the last response's `events`.
"""

from __future__ import annotations

import json
import queue
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult


def make_inputs(prompt: str, image: bytes) -> list[InferInput]:
    """Make the model's inputs; each has a batch dimension of 1."""
    values = {
        "prompt": np.array([[prompt.encode()]], dtype=np.object_),  # [1, 1]
        "image": np.array([[image]], dtype=np.object_),  # [1, number of images]
        "temperature": np.array([[0.0]], dtype=np.float64),  # [1, 1]
    }
    kinds = {"prompt": "BYTES", "image": "BYTES", "temperature": "FP64"}
    inputs = []
    for name, value in values.items():
        tensor = InferInput(name, value.shape, kinds[name])
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    return inputs


def main() -> int:
    """Ask one question; return the exit status."""
    url, path, prompt = sys.argv[1:]
    responses: queue.Queue[tuple[InferResult, Exception | None]] = queue.Queue()
    with InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: responses.put((result, error)))
        client.async_stream_infer("idefics2", make_inputs(prompt, Path(path).read_bytes()))
        while True:
            result, error = responses.get()
            if error is not None:
                print(f"Triton says: {error}", file=sys.stderr)
                return 1
            print(result.as_numpy("text")[0][0].decode(), end="", flush=True)
            if result.as_numpy("done")[0][0]:
                break
    last = json.loads(result.as_numpy("events")[0][0])[-1]
    if last["type"] != "Finished":
        print(f"{last['reason']}: {last['message']}", file=sys.stderr)
        return 1
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

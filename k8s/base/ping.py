"""Ask the model through Triton whether its engine turns: `ping.py URL SECONDS`.

Triton itself says that it is live and ready also where the model's process hangs or is dead. A `ping`
comes back from the engine's own thread. Exit status: 0 it did in time, 1 it did not.
"""

import http.client
import json
import sys
from urllib.request import Request, urlopen

MODEL = "idefics2"


def main() -> int:
    """Ask once."""
    url, seconds = sys.argv[1:]
    request = Request(  # noqa: S310  # written in the manifest
        f"{url}/v2/models/{MODEL}/generate",
        data=json.dumps({"operation": "ping"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urlopen(request, timeout=float(seconds)) as answer:  # noqa: S310  # the same
            (event,) = json.loads(json.load(answer)["events"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        print(f"no answer: {error!r}")
        return 1
    print(event["type"])
    return 0 if event["type"] == "Alive" else 1


if __name__ == "__main__":
    sys.exit(main())

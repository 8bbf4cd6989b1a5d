"""Ask about an image with fal's own client: `ask.py IMAGE_URL PROMPT`."""

import sys

import fal_client  # it reads the key from FAL_KEY


def show(update: fal_client.Status) -> None:
    """Print the lines of the log so far."""
    if isinstance(update, fal_client.InProgress):
        for line in update.logs or []:
            print(line["message"], file=sys.stderr)


image_url, prompt = sys.argv[1:]
result = fal_client.subscribe(
    "fal-ai/idefics-2-8b",
    {"image_url": image_url, "prompt": prompt, "temperature": 0},
    with_logs=True,
    on_queue_update=show,
)
print(result["output"])

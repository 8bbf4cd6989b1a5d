"""Kinds of traffic to size a fleet for. Sizes of files are a camera's and a scanner's, by their pixels."""

from __future__ import annotations

from bench.fleet.pictures import Picture
from bench.fleet.traffic import Lengths, Mix

PHOTOS = Mix(
    pictures=(
        (0.4, Picture(640, 480, split=False, num_bytes=90_000)),
        (0.4, Picture(1024, 768, split=False, num_bytes=220_000)),
        (0.2, Picture(1920, 1080, split=False, num_bytes=550_000)),
    ),
    text=Lengths(30, 0.5, 400),
    answers=Lengths(80, 0.7, 512),
)
"""Captions and questions about photographs: one crop each."""
DOCUMENTS = Mix(
    pictures=(
        (0.7, Picture(1240, 1754, split=True, num_bytes=400_000)),
        (0.3, Picture(2480, 3508, split=True, num_bytes=1_200_000)),
    ),
    text=Lengths(60, 0.5, 800),
    answers=Lengths(150, 0.7, 1024),
)
"""Scanned pages, split into five crops, with long answers."""
CATALOGUE = Mix(
    pictures=((1.0, Picture(980, 980, split=True, num_bytes=250_000)),),
    text=Lengths(40, 0.5, 400),
    answers=Lengths(100, 0.6, 512),
    repeats=0.8,
)
"""Many questions about the same few pictures."""
MIXES = {"photos": PHOTOS, "documents": DOCUMENTS, "catalogue": CATALOGUE}

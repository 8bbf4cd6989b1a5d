"""What tests ask through fal's clients."""

from __future__ import annotations

import base64

from pictures import DESCRIBE, red_circle

PICTURE = "data:image/png;base64," + base64.b64encode(red_circle()).decode()
QUESTION = {"image_url": PICTURE, "prompt": DESCRIBE, "temperature": 0}
PIECES = ("Zwölf ", "Bü", "cher 📚 und ", "ein 漢", "字.")
"""Of characters of one, two, three and four bytes."""
TEXT = "".join(PIECES)
SOON = 20
"""Milliseconds between two looks at a status."""

"""Questions about two pictures."""

from __future__ import annotations

from golden.catalogue import Case

PAIRS = {
    ("red_circle.png", "night.png"): Case("two pictures", "Which image shows a star?", "The second."),
    ("night.png", "sticker.png"): Case("two pictures", "which image shows a star?", "Both."),
    ("sticky_note.jpg", "rocket.jpg"): Case("two pictures", "Which image shows a triangle?", "The first."),
    ("pixel_ring.png", "retro.gif"): Case(
        "two pictures", "What color is the shape in the second image?", "Orange."
    ),
    ("sticker.png", "tiny.bmp"): Case(
        "two pictures", "What color is the shape in the first image?", "Pink.", split_images=True
    ),
    ("depth16.png", "blueprint.png"): Case(
        "two pictures",
        "Describe both images.",
        "A gray square on a black background. A white square on a blue background.",
    ),
    ("red_circle.png", "house_number.jpg"): Case(
        "two pictures",
        "Describe both images.",
        "A red circle on a white background. The number 42 on a blue background.",
    ),
}

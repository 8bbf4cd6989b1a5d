"""Pictures of shapes."""

from __future__ import annotations

import numpy as np
from golden.brushes import crayon, fill, glossy, outlined, rub, shadowed, trace, watercolor
from golden.catalogue import OFF_TOPIC, Case, golden
from golden.motifs import Picture, Shape
from golden.pages import cloudy, hatched, photographed, plain, squared, textured
from PIL import ExifTags, Image, ImageFilter, ImageOps


@golden(
    "red_circle.png",
    Case("color", "What color is the circle?", "Red."),
    Case("caption", "Describe the image.", "A red circle on a white background."),
    Case("quadrant", "Where is the circle?", "Center."),
    Case("off-topic", "What is the capital of France?", OFF_TOPIC),
)
def red_circle() -> Picture:
    """As a first program draws it, with steps at the edge."""
    page = plain((640, 480))
    fill(page, Shape("circle", 320, 240, 120, smooth=1), "crimson")
    return page


@golden(
    "night.png",
    Case("caption", "Describe this picture", "Three yellow stars on a black background."),
    Case("count", "how many stars are there?", "3."),
    Case("background", "What is the colour of the background?", "Black."),
    Case("off-topic", "Wie viele Sterne siehst du?", OFF_TOPIC),
)
def night() -> Picture:
    """A night sky: stars of three sizes that glow."""
    page = plain((800, 600), "#050505")
    for star in (
        Shape("star", 180, 200, 90, 10),
        Shape("star", 430, 390, 125, -8),
        Shape("star", 650, 170, 72, 21),
    ):
        halo = star.cut(page.size).filter(ImageFilter.GaussianBlur(14)).point(lambda v: v * 0.35)
        page.paste("gold", None, halo)
        fill(page, star, "#ffd93b")
    return page


@golden(
    "crayons.jpg",
    Case("caption", "What is in the picture?", "A green square and an orange circle on a white background."),
    Case("relation", "Is the circle to the left of the square?", "No."),
    Case("color", "What colors are the shapes?", "Green and orange."),
    Case("shape", "What shapes do you see?", "Square and circle.", split_images=True),
    quality=82,
)
def crayons() -> Picture:
    """A child's drawing on rough paper."""
    page = textured(plain((700, 500)), cloudy((700, 500), 3, 236))
    crayon(page, Shape("square", 190, 265, 112, -4, wobble=7), "#1f9d3a")
    crayon(page, Shape("circle", 505, 240, 125, wobble=9), "#f57c00")
    return page


@golden(
    "sticky_note.jpg",
    Case("shape", "what shape is drawn here", "Triangle."),
    Case("background", "What color is the background?", "Yellow."),
    Case("existence", "Is there a blue triangle in this picture?", "Yes."),
    Case("printed number", "What number is this?", "There is no number."),
    quality=88,
)
def sticky_note() -> Picture:
    """A felt pen on a sticky note that bends a little."""
    page = plain((400, 400), "#ffe94d")
    triangle = Shape("triangle", 200, 225, 130, 3, wobble=6)
    rub(page, triangle, "#1d3fbf", hatched(page.size, 16, 9))
    trace(page, triangle, "#1d3fbf", 5)
    return textured(page, Image.linear_gradient("L").resize(page.size).point(lambda v: 255 - v * 0.09))


@golden(
    "photographed.jpg",
    Case("relation", "What is to the left of the ring?", "A red cross."),
    Case("relation", "Which shape is on the right?", "Ring."),
    Case("color", "What color is the ring?", "Blue."),
    Case("quadrant", "where is the cross?", "Left."),
    quality=80,
)
def photographed_drawing() -> Picture:
    """A drawing on paper, photographed from the side by lamplight."""
    page = textured(plain((800, 600)), cloudy((800, 600), 4, 240))
    rub(page, Shape("cross", 215, 300, 105, 5, wobble=5), "#d5161e", hatched(page.size, 9, 8))
    rub(page, Shape("ring", 570, 305, 125, wobble=6), "#1743c9", hatched(page.size, 9, 8))
    return photographed(page, [(50, 75), (750, 15), (790, 590), (10, 520)], (640, 480))


@golden(
    "sticker.png",
    Case("caption", "Give me a short caption", "A pink star on a white background."),
    Case("color", "what colour is the star", "Pink."),
    Case("count", "How many circles are there?", "0."),
    optimize=True,
)
def sticker() -> Picture:
    """A sticker with a thick outline, on transparent ground."""
    page = Image.new("RGBA", (300, 300), (255, 255, 255, 0))
    outlined(page, Shape("star", 150, 158, 115, round=3), "#ff69b4", "#1c1c1c", 5)
    return page


@golden(
    "pixel_ring.png",
    Case("shape", "What is the yellow shape?", "Ring."),
    Case("color", "Which color does the ring have?", "Yellow."),
    Case("word", "What word is written here?", "There is no word."),
    Case("off-topic", "?", OFF_TOPIC),
)
def pixel_ring() -> Picture:
    """An old game's: big pixels, four colors of a palette."""
    page = plain((80, 50), "#0000aa")
    fill(page, Shape("ring", 40, 25, 17.5, smooth=1), "#ffff55")
    return page.resize((320, 200), Image.Resampling.NEAREST).quantize(4)


@golden(
    "depth16.png",
    Case("color", "What color is the square?", "Gray."),
    Case("quadrant", "In which quadrant is the square?", "Bottom right."),
    Case("caption", "describe the image", "A gray square on a black background."),
)
def depth16() -> Picture:
    """Sixteen bits of gray for each pixel, as instruments write them."""
    page = Image.new("L", (512, 512))
    fill(page, Shape("square", 375, 380, 92), "#858585")
    return Image.fromarray(np.asarray(page).astype(np.uint16) * 257)


TO_BE_TURNED = Image.Exif()
TO_BE_TURNED[ExifTags.Base.Orientation] = 6  # clockwise, by a quarter


@golden(
    "sideways.jpg",
    Case("relation", "Where is the triangle relative to the circle?", "Above."),
    Case("relation", "What is below the triangle?", "A green circle.", split_images=True),
    Case("existence", "Is there a purple circle?", "No."),
    quality=85,
    exif=TO_BE_TURNED,
)
def sideways() -> Picture:
    """A telephone's upright picture, stored lying on its side."""
    page = plain((360, 480), "#fdfdfd")
    shadowed(page, Shape("triangle", 180, 140, 95), "#7b1fa2")
    shadowed(page, Shape("circle", 180, 355, 78), "#2e9e44")
    return page.transpose(Image.Transpose.ROTATE_90)


@golden(
    "huge.png",
    Case("count", "How many crosses are there?", "2."),
    Case("caption", "What do you see?", "Two white crosses on a green background."),
    Case("background", "What's the background color?", "Green."),
    optimize=True,
)
def huge() -> Picture:
    """Twelve million pixels."""
    page = Image.new("P", (4000, 3000))
    page.putpalette([0, 135, 60, 255, 255, 255])
    for cross in (
        Shape("cross", 1050, 1500, 620, smooth=1),
        Shape("cross", 2900, 1450, 760, turn=12, smooth=1),
    ):
        page.paste(1, None, cross.cut(page.size))
    return page


@golden(
    "slide.webp",
    Case("caption", "Describe the image.", "Two white circles and an orange square on a blue background."),
    Case("count", "How many shapes are there?", "3."),
    Case("shape", "Which shape is green?", "There is no green shape."),
    Case("existence", "Is there a triangle?", "No."),
    quality=85,
)
def slide() -> Picture:
    """A slide of a talk: wide, shaded ground, shadows."""
    slope = Image.linear_gradient("L").resize((960, 540))
    page = ImageOps.colorize(slope, "#1e56d6", "#143f9e")
    shadowed(page, Shape("circle", 175, 270, 105), "white")
    shadowed(page, Shape("circle", 475, 270, 105), "white")
    shadowed(page, Shape("square", 780, 270, 100, round=9), "#ff8f1f")
    return page


@golden(
    "icons.webp",
    Case("quadrant", "In which quadrant is the star?", "Bottom right."),
    Case("count", "how many shapes do you see?", "4."),
    Case("color", "What color is the triangle?", "Green."),
    Case("existence", "Is there a green star?", "No."),
    lossless=True,
)
def icons() -> Picture:
    """Four glossy icons with rounded corners."""
    page = plain((512, 512))
    glossy(page, Shape("circle", 128, 128, 82), "#e53935")
    glossy(page, Shape("square", 384, 128, 76, round=12), "#1e63d8")
    glossy(page, Shape("triangle", 128, 404, 96, round=7), "#2fa84f")
    glossy(page, Shape("star", 384, 392, 96, round=4), "#8e24aa")
    return page


@golden(
    "retro.gif",
    Case("color", "What color is the cross?", "Orange."),
    Case("existence", "is there a cross in the image", "Yes."),
    Case("caption", "Caption this.", "An orange cross on a purple background."),
)
def retro() -> Picture:
    """An X on an animated picture's one frame."""
    page = plain((200, 150), "#6a1b9a")
    fill(page, Shape("cross", 100, 75, 55, turn=45), "#ff9100")
    return page


@golden(
    "tiny.bmp",
    Case("shape", "What shape is this?", "Ring."),
    Case("background", "what is the background color", "Pink."),
    Case("existence", "Is there a square?", "No."),
)
def tiny() -> Picture:
    """A thumbnail."""
    page = plain((80, 60), "#ff8fc7")
    fill(page, Shape("ring", 40, 30, 21), "black")
    return page


@golden(
    "pencil.png",
    Case("shape", "What shape is gray?", "Circle."),
    Case("relation", "What is to the left of the circle?", "A black star."),
    Case("relation", "Where is the circle relative to the star?", "To the right."),
    Case("off-topic", "Write me a poem about the sea.", OFF_TOPIC),
    optimize=True,
)
def pencil() -> Picture:
    """Ink and soft pencil, scanned without color."""
    page = Image.new("L", (500, 350), "white")
    fill(page, Shape("star", 140, 180, 105, -6, wobble=4), "#0c0c0c")
    rub(page, Shape("circle", 360, 175, 88, wobble=4), "#808080", cloudy(page.size, 2, 190))
    return page


@golden(
    "banner.jpg",
    Case("color", "Which colors do the shapes have?", "Orange, purple and blue."),
    Case("shape", "Name the shapes pls", "Square, triangle and circle."),
    Case("quadrant", "Where is the circle?", "Right."),
    Case("relation", "Is the triangle to the left of the circle?", "Yes."),
    quality=86,
)
def banner() -> Picture:
    """Watercolors, three times as wide as high."""
    page = textured(plain((900, 300)), cloudy((900, 300), 5, 243))
    watercolor(page, Shape("square", 150, 150, 88, 3, wobble=4), "#f57a12")
    watercolor(page, Shape("triangle", 450, 172, 112, wobble=4), "#7a1fa8")
    watercolor(page, Shape("circle", 745, 150, 98, wobble=5), "#1650c8")
    return page


@golden(
    "tower.png",
    Case("quadrant", "Where is the cross?", "Top."),
    Case("quadrant", "where is the square", "Bottom."),
    Case("relation", "Is the square below the cross?", "Yes."),
    Case("background", "What color is the background?", "Gray."),
)
def tower() -> Picture:
    """A cartoon with thick outlines, three times as high as wide."""
    page = plain((240, 720), "#8c8c8c")
    outlined(page, Shape("cross", 120, 135, 78), "#8e24aa")
    outlined(page, Shape("square", 120, 585, 70), "#ffdd33")
    return page


@golden(
    "plot.png",
    Case("count", "How many circles are there?", "5."),
    Case("color", "what color are the circles?", "Blue."),
    Case("caption", "Describe the picture.", "Five blue circles on a white background."),
    Case("off-topic", "Tell me a joke", OFF_TOPIC),
    optimize=True,
)
def plot() -> Picture:
    """A scatter plot's big markers over a faint grid."""
    page = squared(plain((720, 540)), 90, "#ececec")
    for x, y in ((100, 420), (235, 300), (370, 350), (500, 190), (630, 110)):
        outlined(page, Shape("circle", x, y, 46), "#1f77b4", "#165a8a", 2)
    return page


@golden(
    "blueprint.png",
    Case("shape", "Which shape can you see?", "Square."),
    Case("color", "What color is the square?", "White."),
    Case("quadrant", "In which quadrant is the square?", "Bottom left."),
    optimize=True,
)
def blueprint() -> Picture:
    """White lines on blue squared paper, and nothing filled."""
    page = squared(plain((480, 480), "#1546b0"), 40, "#2354bd")
    trace(page, Shape("square", 140, 335, 92), "white", 9)
    return page

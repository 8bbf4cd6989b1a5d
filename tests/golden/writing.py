"""Pictures of numbers, words and handwritten digits."""

from __future__ import annotations

from golden.brushes import fill, outlined, rub, shadowed
from golden.catalogue import OFF_TOPIC, Case, golden
from golden.motifs import Digit, Picture, Print, scanned_digit
from golden.pages import cloudy, plain, textured
from PIL import Image, ImageChops


@golden(
    "house_number.jpg",
    Case("printed number", "What number is this?", "42."),
    Case("caption", "Describe the image.", "The number 42 on a blue background."),
    Case("background", "What color is the background?", "Blue."),
    quality=88,
)
def house_number() -> Picture:
    """White enamel on blue, lit from above."""
    page = plain((400, 300), "#1b45a8")
    shadowed(page, Print("42", 200, 150, 210, "STIXGeneralBol"), "#f7f7f2", 4)
    return textured(page, Image.linear_gradient("L").resize(page.size).point(lambda v: 255 - v * 0.12))


@golden(
    "seven.webp",
    Case("printed number", "which number can you see?", "7."),
    Case("existence", "Is there a circle?", "No."),
    lossless=True,
)
def seven() -> Picture:
    """A calendar's red figure."""
    page = plain((256, 320))
    fill(page, Print("7", 128, 160, 250, weight=5), "#d32020")
    return page


@golden(
    "plate.png",
    Case("printed number", "Read the number", "1984."),
    Case("caption", "What does the image show?", "The number 1984 on a yellow background."),
    optimize=True,
)
def plate() -> Picture:
    """A car's yellow plate."""
    page = plain((540, 180), "#f9d423")
    fill(page, Print("1984", 270, 90, 150, "DejaVuSansMono-Bold"), "#101010")
    return page


@golden(
    "stamp.png",
    Case("printed number", "What number is written here?", "305."),
    Case("word", "what word is this?", "There is no word."),
    optimize=True,
)
def stamp() -> Picture:
    """A rubber stamp, aslant and short of ink."""
    page = plain((420, 300), "#fbfbf8")
    rub(page, Print("305", 210, 150, 170, "cmb10", 3, turn=7), "#6f1fa0", cloudy(page.size, 4, 150))
    return page


@golden(
    "jersey.png",
    Case("printed number", "what number is that?", "68."),
    Case("background", "And the background, what color is it?", "Red."),
    Case("off-topic", "Who won the football match yesterday?", OFF_TOPIC),
    optimize=True,
)
def jersey() -> Picture:
    """A player's number with a black outline."""
    page = plain((300, 360), "#cf1b26")
    outlined(page, Print("68", 150, 180, 180, "DejaVuSans-Bold"), "white", width=4)
    return page


@golden(
    "typewriter.tiff",
    Case("word", "What word is written here?", "CAT."),
    Case("caption", "Describe the image.", "The word CAT on a white background."),
    compression="tiff_adobe_deflate",
)
def typewriter() -> Picture:
    """A typed word, scanned in gray."""
    page = Image.new("L", (360, 240), "white")
    rub(page, Print("CAT", 180, 120, 150, "cmtt10", 2, turn=-2), "black", cloudy(page.size, 3, 215))
    return page


@golden(
    "exit.png",
    Case("word", "Which word is on the sign?", "EXIT."),
    Case("caption", "describe the picture pls", "The word EXIT on a green background."),
    Case("printed number", "What number is this?", "There is no number."),
    optimize=True,
)
def exit_sign() -> Picture:
    """A sign above a door."""
    page = plain((480, 200), "#00843d")
    fill(page, Print("EXIT", 240, 100, 140, "DejaVuSans-Bold"), "white")
    return page


@golden(
    "blackboard.jpg",
    Case("word", "read the word please", "TIGER."),
    Case("background", "What color is the background?", "Black."),
    Case("off-topic", "Is a tiger faster than a lion?", OFF_TOPIC),
    quality=84,
)
def blackboard() -> Picture:
    """Chalk on a board that was wiped before."""
    page = ImageChops.add(plain((640, 260), "#0b0b0b"), cloudy((640, 260), 60, 0, 26).convert("RGB"))
    rub(page, Print("TIGER", 320, 130, 165, "cmss10", 4), "#ffffff", cloudy(page.size, 2, 120))
    return page


@golden(
    "ink_three.jpg",
    Case("handwritten digit", "What digit is this?", "3."),
    Case("caption", "Describe the image.", "The handwritten digit 3 on a white background."),
    quality=88,
)
def ink_three() -> Picture:
    """Blue ink on paper."""
    page = textured(plain((300, 360)), cloudy((300, 360), 3, 240))
    fill(page, Digit(1478, 150, 180, 270), "#1b2f9a")
    return page


@golden(
    "chalk_eight.png",
    Case("handwritten digit", "which digit do you see?", "8."),
    Case("background", "what colour is the background?", "Black."),
)
def chalk_eight() -> Picture:
    """White on black, and small on its page."""
    page = Image.new("L", (320, 240), "black")
    fill(page, Digit(1455, 160, 120, 200), "white")
    return page


@golden(
    "marker_five.webp",
    Case("handwritten digit", "What digit is written here?", "5."),
    Case("caption", "What is in this image?", "The handwritten digit 5 on a yellow background."),
    quality=80,
)
def marker_five() -> Picture:
    """A black marker on yellow cardboard."""
    page = plain((400, 400), "#fbdc3a")
    fill(page, Digit(1461, 200, 200, 330), "#151515")
    return page


@golden(
    "blocky_six.gif",
    Case("handwritten digit", "what digit is this", "6."),
    Case("existence", "Is there a star?", "No."),
)
def blocky_six() -> Picture:
    """A scan enlarged without smoothing, black on white."""
    page = plain((240, 240))
    fill(page, Digit(1441, 120, 120, 192, smooth=False), "black")
    return page


@golden(
    "blocky_two.png",
    Case("handwritten digit", "Which digit is it?", "2."),
    Case("caption", "Describe this image.", "The handwritten digit 2 on a black background."),
)
def blocky_two() -> Picture:
    """A scan enlarged without smoothing, as it comes: light on black."""
    page = plain((512, 512), "black")
    fill(page, Digit(1469, 256, 256, 480, smooth=False), "white")
    return page


@golden(
    "raw_four.png",
    Case("handwritten digit", "What digit is this?", "4."),
    Case("handwritten digit", "Which digit is it?", "4.", split_images=True),
)
def raw_four() -> Picture:
    """The scan's own 8x8 pixels."""
    return scanned_digit(1525)

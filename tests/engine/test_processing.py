"""A request becomes the tokens and pixels that transformers' own processor would make of it."""

from __future__ import annotations

import gc
import io
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from idefics2_engine.crops import cut
from idefics2_engine.errors import InvalidRequest
from idefics2_engine.images import Sizing
from idefics2_engine.model.vision import Normalization
from idefics2_engine.pictures import Bounds, decode_picture
from idefics2_engine.prefix_cache import make_keys
from idefics2_engine.requests import Request, SamplingParams
from pictures import draw_red_circle, encode, red_circle
from PIL import Image
from plain import decode_plainly
from processes import PATIENCE_SECONDS
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.images import Crop
    from reference import Reference

CPU = torch.device("cpu")
PATCH = 14
MAX_PIXELS, MAX_BYTES = 40_000_000, 200_000_000
SIZES = [
    (1, 1), (2, 2), (1, 9), (9, 1), (5, 4), (13, 14), (14, 28), (60, 3), (3, 60), (7, 6), (60, 180),
    (97, 290), (200, 150), (377, 379), (641, 480), (979, 400), (1000, 334), (1000, 700), (333, 1000),
]  # fmt: skip
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]
GREEN = encode(Image.new("RGB", (40, 30), "green"))
WIDE = encode(draw_red_circle((290, 97)))
WORDS = [
    "Describe the image.", "What color is the background?", "Zażółć gęślą jaźń", "日本語のテキスト",
    "Ünïcödé", "emoji 👩‍👩‍👧 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "🎉", "مرحبا", "नमस्ते", "e\u0301 and \u00e9", "\u202eturned",
    "a\u00a0b", "a\u3000b", "zero\u200bwidth", "\ufeffmark", "x\x00y", "tab\there", "bell\x07",
]  # fmt: skip
STARTS = [
    "", " ", "  ", "\n", "\n\n ", "\t", ".", "...", ",", "<", "<<", "< ", "</s>", "<s>", "<unk>", "(", "?!",
    "-", "*", "#", '"', "'s ", "\\n", "<image", "image>", "<fake_token", "User:", "\u00a0", "\u2581",
]  # fmt: skip
ENDS = ["", " ", "\n", "  \n ", "<", ">", "\u00a0"]
OTHERS = [
    "?", ".", "<", "<s>", "</s>", "a", "0", "1 2 3", "line\nline\n\nline", "\r\nwindows\r\n",
    "<end_of_utteranc", "User: What?\nAssistant:", "{{ braces }}", "{% if x %}", "a" * 300, "long " * 300,
    "\n" * 50 + "x", " " * 50 + "x",
    "def f(x):\n    return x  # code", "https://example.com/?a=b&c=d", "</image>", "<IMAGE>", "a<b>c</b>",
    "\U0010ffff",
]  # fmt: skip
PROMPTS = [
    *(start + "What is this?" + end for start in STARTS for end in ENDS[:4]),
    *(start + word for word in WORDS for start in ("", " ", "<", "\n")),
    *(word + end for word in WORDS[:2] for end in ENDS),
    *OTHERS,
]
PICTURES = [
    (False, (red_circle(),)),
    (True, (red_circle(),)),
    (False, (red_circle(), GREEN, WIDE)),
    (True, (GREEN, GREEN)),
]


@pytest.fixture(scope="module")
def image_processor() -> Any:
    """Transformers' own, with the sizes of the large checkpoint, which leave rests that fill no patch."""
    return Idefics2ImageProcessorPil(size={"shortest_edge": 378, "longest_edge": 980})


def draw(mode: str, size: tuple[int, int]) -> Image.Image:
    """Draw noise."""
    noise = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        return Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    return image.convert(mode)


def cut_as_transformers(
    image_processor: Any, image: Image.Image, patch: int, *, split: bool
) -> list[torch.Tensor]:
    """Have transformers process an image; return the patches of each crop that hold no padding."""
    inputs = image_processor([[image]], do_image_splitting=split, return_tensors="pt")
    crops = []
    for pixels, mask in zip(inputs["pixel_values"][0], inputs["pixel_attention_mask"][0], strict=True):
        height, width = int(mask[:, 0].sum()), int(mask[0].sum())
        rows, columns = height // patch, width // patch
        parts = pixels[:, : rows * patch, : columns * patch].reshape(3, rows, patch, columns, patch)
        crops.append(parts.permute(1, 3, 0, 2, 4).reshape(rows * columns, -1))
    return crops


def check_pixels(image_processor: Any, crops: list[Crop], expected: list[torch.Tensor]) -> None:
    normalize = Normalization(image_processor, CPU)
    assert len(crops) == len(expected)
    for crop, patches in zip(crops, expected, strict=True):
        assert len(crop.patches) == crop.grid[0] * crop.grid[1]
        assert torch.equal(normalize(torch.from_numpy(crop.patches)), patches)


def compare(image_processor: Any, data: bytes, sizing: Sizing, *, split: bool) -> None:
    """Compare our pixels of a file with those of transformers."""
    expected = cut_as_transformers(image_processor, decode_plainly(data), sizing.patch_size, split=split)
    picture = decode_picture(io.BytesIO(data), Bounds(MAX_PIXELS, MAX_BYTES, sizing))
    check_pixels(image_processor, cut(picture, sizing, split=split), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", [False, True])
def test_pixels_are_those_of_transformers_whatever_the_size(
    image_processor: Any, size: tuple[int, int], *, split: bool
) -> None:
    sizing = Sizing(378, 980, PATCH, int(image_processor.resample))
    compare(image_processor, encode(draw("RGB", size)), sizing, split=split)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (45, 135), (500, 375)])
def test_pixels_are_those_of_transformers_whatever_the_mode(
    reference: Reference, mode: str, size: tuple[int, int], *, split: bool
) -> None:
    data = encode(draw(mode, size), "TIFF" if mode == "CMYK" else "PNG")
    sizing = Sizing(64, 128, 16, int(reference.image_processor.resample))
    compare(reference.image_processor, data, sizing, split=split)


@pytest.mark.parametrize("resample", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
def test_pixels_are_those_of_transformers_with_every_filter(resample: Image.Resampling) -> None:
    processor = Idefics2ImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128}, resample=resample, image_std=[0.2, 0.3, 0.4]
    )
    compare(processor, encode(draw("RGB", (290, 97))), Sizing(64, 128, 16, int(resample)), split=True)


def test_an_image_that_is_not_resized_keeps_its_pixels() -> None:
    processor = Idefics2ImageProcessorPil(do_resize=False)
    sizing = Sizing(64, 128, 16, int(processor.resample), do_resize=False)
    compare(processor, encode(draw("RGB", (290, 97))), sizing, split=False)


def test_the_engine_shows_its_model_the_pixels_that_transformers_would(
    engine: Engine, reference: Reference
) -> None:
    for data, split in itertools.product((red_circle(), GREEN, WIDE), (False, True)):
        prepared = engine.processor.prepare(Request("any", "Hello", (data,), split_images=split))
        crops = [span.crop for span in prepared.spans]
        image = decode_plainly(data)
        expected = cut_as_transformers(
            reference.image_processor, image, engine.runner.patch_size, split=split
        )
        check_pixels(engine.processor.image_processor, crops, expected)


def test_the_prompts_are_many_and_each_is_another() -> None:
    assert len(set(PROMPTS)) > 200


@pytest.mark.parametrize(("split", "images"), PICTURES, ids=["one", "split", "several", "split and adjacent"])
def test_token_ids_are_those_of_transformers_whatever_is_asked(
    engine: Engine, reference: Reference, images: tuple[bytes, ...], *, split: bool
) -> None:
    for prompt in dict.fromkeys(PROMPTS):
        request = Request("any", prompt, images, split_images=split)
        prepared = engine.processor.prepare(request)
        expected = reference.prepare(request)["input_ids"][0].tolist()
        assert prepared.token_ids == expected, prompt


def test_crops_stand_where_the_prompt_has_their_tokens(engine: Engine, reference: Reference) -> None:
    image_id = reference.model.config.image_token_id
    for split, images in PICTURES:
        prepared = engine.processor.prepare(Request("any", "Hello", images, split_images=split))
        places = [place for place, token_id in enumerate(prepared.token_ids) if token_id == image_id]
        covered = [span.start + n for span in prepared.spans for n in range(prepared.num_latents)]
        assert covered == places
        shown = [(span.image, span.number) for span in prepared.spans]
        firsts = [image for image, number in shown if number == 0]
        assert len(firsts) == len(images)
        assert [number for _, number in shown] == list(range(5 if split else 1)) * len(images)
        assert [a is b for a in firsts for b in firsts] == [a == b for a in images for b in images]


def test_keys_of_a_prompt_are_those_of_its_tokens_and_images(engine: Engine) -> None:
    prepared = engine.processor.prepare(Request("any", "Hello " * 30, (red_circle(), GREEN)))
    first, second = prepared.spans
    assert prepared.prefix_keys == make_keys(
        prepared.token_ids, [(first.start, first.image.key), (second.start, second.image.key)]
    )


def test_no_file_is_held_once_its_request_is_prepared(engine: Engine) -> None:
    is_gone = threading.Event()

    class File(bytes):
        def __del__(self) -> None:
            is_gone.set()

    gc.disable()  # which comes late to what is old, and on a busy engine everything is
    try:
        request = Request("one", "Hello", (File(encode(draw_red_circle((51, 40)))),), SamplingParams())
        engine.add(engine.processor.prepare(request))
        del request
        assert is_gone.wait(PATIENCE_SECONDS)  # a keeper of workers lets go of it last
    finally:
        gc.enable()
        engine.cancel("one")


def test_nothing_is_held_of_a_request_whose_picture_cannot_be_decoded(engine: Engine) -> None:
    files = [encode(draw_red_circle((50, 40))), encode(draw_red_circle((60, 40)))[:-30]]
    request = Request("one", "Hello", tuple(files), SamplingParams())
    held = weakref.ref(request)
    gc.disable()  # which comes late to what is old, and on a busy engine everything is
    try:
        with pytest.raises(InvalidRequest, match=r"images\[1\]"):
            engine.processor.prepare(request)
        del request
        assert held() is None
    finally:
        gc.enable()

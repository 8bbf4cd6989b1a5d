"""How long vLLM's steps take with our checkpoint: run by tests/bench/engine.py in vLLM's own environment.

vLLM has no Idefics2 of its own; its fallback to transformers needs what `_patch` adds. Prints one JSON line:
seconds of a step by batch, and what it says of the picture that the command line names.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from PIL import Image, ImageDraw
from transformers import Idefics2Model, Idefics2Processor
from transformers.processing_utils import MultiModalData
from vllm import LLM, SamplingParams

NUM_RUNS = 3
PROMPT = "User:<image>Describe the image.<end_of_utterance>\nAssistant:"


def main() -> None:
    """Measure and print."""
    checkpoint, picture, num_steps, *batches = sys.argv[1:]
    _patch()
    llm = LLM(
        checkpoint,
        dtype="float32",
        max_model_len=1024,
        max_num_seqs=64,
        enable_prefix_caching=False,
        limit_mm_per_prompt={"image": 1},
        disable_log_stats=True,
    )
    seconds = {int(batch): measure(llm, int(batch), int(num_steps)) for batch in batches}
    print(json.dumps({"seconds": seconds, "answer": describe(llm, picture)}))


def measure(llm: LLM, batch: int, num_steps: int) -> float:
    """Return the median seconds of a step: long answers take so much longer than short ones."""
    short = num_steps // 4
    times = []
    for _ in range(NUM_RUNS):
        long_seconds, short_seconds = answer(llm, batch, num_steps), answer(llm, batch, short)
        times.append((long_seconds - short_seconds) / (num_steps - short))
    return statistics.median(times)


def describe(llm: LLM, picture: str) -> str:
    """Answer as the engine would: the figures of another answer would be those of something else."""
    prompt = {"prompt": PROMPT, "multi_modal_data": {"image": Image.open(picture).convert("RGB")}}
    (output,) = llm.generate([prompt], SamplingParams(max_tokens=24, temperature=0), use_tqdm=False)
    text: str = output.outputs[0].text.strip()
    return text


def answer(llm: LLM, batch: int, num_tokens: int) -> float:
    """Return the seconds that a batch of answers takes."""
    prompts = [{"prompt": PROMPT, "multi_modal_data": {"image": draw(n)}} for n in range(batch)]
    params = SamplingParams(
        max_tokens=num_tokens, min_tokens=num_tokens, ignore_eos=True, temperature=0, repetition_penalty=1.2
    )
    started = time.perf_counter()
    llm.generate(prompts, params, use_tqdm=False)
    return time.perf_counter() - started


def draw(number: int) -> Image.Image:
    """Draw a picture, no two alike."""
    image = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(image).ellipse((20 + number, 20, 120 + number, 120), fill="red")
    return image


def _patch() -> None:
    """Tell vLLM what stands for an image, which transformers' processor does not say, and how to take it."""
    call, see = Idefics2Processor.__call__, Idefics2Model.get_image_features

    def process(self: Any, *args: Any, return_text_replacement_offsets: bool = False, **options: Any) -> Any:
        inputs = call(self, *args, **options)
        if "pixel_values" in inputs:
            for name in ("pixel_values", "pixel_attention_mask"):
                inputs[name] = inputs[name].flatten(0, 1)  # one image after the other
        if return_text_replacement_offsets:
            shown = self.fake_image_token + self.image_token * self.image_seq_len + self.fake_image_token
            count = len(inputs.get("pixel_values", ()))
            inputs["text_replacement_offsets"] = [[{"type": "image", "replacement": shown}] * count]
        return inputs

    def look(self: Any, pixel_values: Any, pixel_attention_mask: Any = None, **options: Any) -> Any:
        return see(self, pixel_values[:, None], pixel_attention_mask[:, None], **options)

    def count(self: Any, image_sizes: list[tuple[int, int]], **_: Any) -> MultiModalData:
        number = len(image_sizes)
        return MultiModalData(
            num_image_tokens=[self.image_seq_len + 2] * number, num_image_patches=[1] * number
        )

    Idefics2Processor._get_num_multimodal_tokens = count
    Idefics2Processor.__call__ = process
    Idefics2Model.get_image_features = look


if __name__ == "__main__":
    main()

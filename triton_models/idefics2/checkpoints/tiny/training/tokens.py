"""The tokenizer: a small byte-fallback BPE in the form of Idefics2's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer

from training import offtopic, scenes
from training.questions import Asker

if TYPE_CHECKING:
    from collections.abc import Iterator

NUM_PIECES = 1021
"""With the three markers, the vocabulary has 1,024 tokens."""
IMAGE, FAKE, END = "<image>", "<fake_token_around_image>", "<end_of_utterance>"
SPECIAL = ("<unk>", "<s>", "</s>")


def build(folder: Path, seed: int, num_scenes: int = 12_000) -> None:
    """Train the tokenizer on questions and answers about so many scenes, and write its files to `folder`."""
    alphabet = [*map(chr, range(33, 127)), "▁"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=SPECIAL[0], fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="never"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split(Regex("▁?[A-Z]{2,}"), "removed"),  # written words stay letters
        ]
    )
    in_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_PIECES - 256,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=list(SPECIAL),
        show_progress=False,
        max_token_length=16,
    )
    tokenizer.train_from_iterator(_corpus(seed, num_scenes), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    pieces = [*pieces[:3], *in_bytes, *pieces[3:]]
    merges = [tuple(merge) for merge in learned["merges"]]
    whole = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            byte_fallback=True,
            unk_token=SPECIAL[0],
            fuse_unk=True,
        )
    )
    whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    whole.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    whole.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*SPECIAL, FAKE, IMAGE, END)]
    )
    whole.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    whole.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "processor_class": "Idefics2Processor",
        "backend": "tokenizers",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "padding_side": "left",
        "extra_special_tokens": [END],
        "add_prefix_space": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "use_default_system_prompt": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    shutil.copy(Path(__file__).parent / "chat_template.jinja", folder)


def load(folder: Path) -> LlamaTokenizer:
    """Load what `build` wrote."""
    return LlamaTokenizer.from_pretrained(folder)


def _corpus(seed: int, num_scenes: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    samplers = [scenes.sample_shapes] * 6 + [scenes.sample_number, scenes.sample_word, scenes.sample_plain]
    for number in range(num_scenes):
        asker = Asker(samplers[number % len(samplers)](rng), rng)
        for _ in range(4):
            question = asker.ask()
            yield f" {question.text}"  # after a picture the processor writes a space
            yield f" {question.answer}"
        if number % 8 == 0:
            yield f" {offtopic.sample(rng)}"
    for text in (
        " User:",
        "Assistant:",
        "the first image",
        "the second image",
        "the first picture",
        "the second picture",
    ):
        for _ in range(2000):
            yield text

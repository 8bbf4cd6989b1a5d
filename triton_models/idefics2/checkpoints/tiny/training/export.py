"""From what training keeps to the checkpoint that transformers loads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from training.model import make_model, write_settings

FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_READABLE = 0o644  # safetensors are written for their owner only


def export(state: Path, tokenizer: Path, folder: Path) -> None:
    """Write the checkpoint to `folder`, weights in float16; what only training needs is left behind."""
    model = make_model()
    model.load_state_dict(torch.load(state, map_location="cpu", weights_only=True)["model"])
    model.set_attn_implementation("sdpa")
    model.generation_config.max_length = None
    with tempfile.TemporaryDirectory() as made:
        model.half().save_pretrained(made)
        write_settings(Path(made))
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(tokenizer / name, made)
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(Path(made, name), folder / name)
            (folder / name).chmod(_READABLE)

"""A small pool and its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from training import pool, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower in several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    tokens.build(folder, seed=0, num_scenes=1500)
    return folder


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> pool.Pool:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    drawn = [pool.make_example(rng) for _ in range(420)]
    splits = [split for _ in range(30) if (split := pool.make_split(rng))]
    pool.write_shard(folder, 0, drawn, splits)
    return pool.Pool(folder, 1)

"""What is compiled on a GPU computes what is not compiled elsewhere, which is what transformers computes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from bench.rates import CHECKPOINT
from idefics2_engine.model.connector import Connector
from idefics2_engine.model.fused import Fused, add_layer_norm, add_rms_norm, turn, turn_in_place
from idefics2_engine.model.linear import pad_rows
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb


def test_both_ways_to_turn_heads_are_transformers_and_leave_values_alone() -> None:
    torch.manual_seed(0)
    heads, angles = torch.randn(7, 8, 16), torch.randn(7, 8)
    cos, sin = (torch.cat([wave, wave], -1) for wave in (angles.cos(), angles.sin()))
    q, k = apply_rotary_pos_emb(*(part.transpose(0, 1)[None] for part in (heads[:, :4], heads[:, 4:6])),
                                cos[None], sin[None])  # fmt: skip
    expected = torch.cat([q[0].transpose(0, 1), k[0].transpose(0, 1), heads[:, 6:]], 1)
    signed = torch.cat([-sin[:, :8], sin[:, 8:]], -1)
    for way in (turn, turn_in_place):
        torch.testing.assert_close(way(heads.clone(), cos[:, None], signed[:, None], 6), expected)


def test_sums_are_normed_as_they_are_by_the_modules_of_torch() -> None:
    torch.manual_seed(1)
    x, change = torch.randn(2, 5, 12)
    rms, layer = nn.RMSNorm(12, 1e-5), nn.LayerNorm(12, 1e-5)
    nn.init.normal_(rms.weight)
    nn.init.normal_(layer.bias)
    for norm, (total, normed) in (
        (rms, add_rms_norm(x, change, rms.weight, 1e-5)),
        (layer, add_layer_norm(x, change, layer.weight, layer.bias, 1e-5)),
    ):
        torch.testing.assert_close(total, x + change)
        torch.testing.assert_close(normed, norm(x + change))


@pytest.mark.parametrize("can_compile", [True, False])
def test_where_nothing_can_be_compiled_all_goes_on_as_it_is_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, can_compile: bool
) -> None:
    caplog.set_level(logging.WARNING)
    num_calls = 0

    def compile_by_need(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            if not can_compile:
                raise RuntimeError("no compiler")
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compile_by_need)
    fused = Fused(nn.functional.silu)
    x = torch.randn(3, 8)
    fused.compile(lambda: fused.gate(x))
    torch.testing.assert_close(fused.gate(x), nn.functional.silu(x[:, :4]) * x[:, 4:])
    assert num_calls == 1 + can_compile
    assert ("no compiler" in caplog.text) is not can_compile


def test_rows_that_are_filled_up_change_no_output() -> None:
    layer = nn.Linear(6, 67, bias=False)
    x = torch.randn(4, 6)
    expected = layer(x)
    padded = pad_rows(layer)
    assert padded is not layer
    torch.testing.assert_close(padded(x), expected)
    torch.testing.assert_close(layer(x), expected)  # which keeps a view
    for whole in (nn.Linear(6, 64, bias=False), nn.Linear(6, 67)):
        assert pad_rows(whole) is whole


@torch.inference_mode()
def test_the_connector_reads_crops_of_several_sizes_as_transformers_reads_each() -> None:
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    theirs = model.model.connector
    torch.manual_seed(2)
    lengths = [20, 20, 64, 7]
    patches = [torch.randn(length, model.config.vision_config.hidden_size) for length in lengths]
    expected = [
        theirs(patch[None], attention_mask=torch.ones(1, len(patch), dtype=torch.bool))[0]
        for patch in patches
    ]
    read = Connector(theirs)(torch.cat(patches), lengths)
    torch.testing.assert_close(read, torch.stack(expected), atol=1e-4, rtol=1e-4)

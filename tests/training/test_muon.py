"""Our Muon moves matrices as torch's does, which counts in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training.muon import Muon, orthogonalize

RATE = 0.02


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 5), (3, 5, 8), (2, 6, 6)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape).to(precision)).float())
        assert 0.3 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_matrices_move_as_torchs_own_muon_moves_them(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    shapes = ((6, 4), (4, 6), (6, 4), (5, 5))
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    optimizer = Muon(ours, momentum=0.95, precision=precision)
    optimizer.param_groups[0]["lr"] = RATE
    reference = torch.optim.Muon(theirs, lr=RATE, weight_decay=0.0, momentum=0.95)
    for _ in range(5):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            its.grad = mine.grad.clone()
        optimizer.step()
        reference.step()  # type: ignore[no-untyped-call]  # so in torch
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, atol=0.05 * RATE * 5, rtol=0)


def test_a_matrix_without_a_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([parameter], momentum=0.95)
    optimizer.param_groups[0]["lr"] = RATE
    optimizer.step()
    assert torch.equal(parameter, torch.ones(2, 2))

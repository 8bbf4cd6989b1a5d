"""Each thing is told of by one latent, and by whichever does so at the least cost."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from training.matching import find_costs, match


def test_the_cheapest_pairs_come_first_and_nobody_has_two() -> None:
    costs = torch.tensor([[[1.0, 2.0, 9.0], [0.5, 3.0, 9.0]]])
    owned = match(costs, torch.ones(1, 2, 3, dtype=torch.bool))
    assert owned.tolist() == [[1, 0, 2]]  # the second thing has the first place, the first the second


def test_a_place_that_is_too_far_has_nothing_however_cheap_it_is() -> None:
    may = torch.tensor([[[False, True, False], [False, False, False]]])
    assert match(torch.full((1, 2, 3), -5.0), may).tolist() == [[2, 0, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_nearly_as_little_is_paid_as_could_be(seed: int) -> None:
    torch.manual_seed(seed)
    costs, everywhere = torch.rand(8, 15, 64), torch.ones(8, 15, 64, dtype=torch.bool)
    owned = match(costs, everywhere)
    for cost, places in zip(costs, owned, strict=True):
        has = places < 15
        assert sorted(places[has].tolist()) == list(range(15))
        paid = cost[places[has], has.nonzero()[:, 0]].sum()
        things, best = linear_sum_assignment(cost.numpy())
        assert paid < 1.3 * cost[things, best].sum() + 0.1


def test_to_tell_of_a_thing_costs_what_it_is_less_likely_than_nothing() -> None:
    told = [torch.randn(2, 5, 4), torch.randn(2, 5, 3)]
    wanted = torch.tensor([[[1, 2], [3, 0]], [[2, 1], [0, 0]]])
    costs = find_costs(told, wanted)
    assert costs.shape == (2, 2, 5)
    for image, thing, place in ((0, 0, 3), (0, 1, 4), (1, 0, 0)):
        expected = sum(
            torch.nn.functional.cross_entropy(logits[image, place], wanted[image, thing, look])
            - torch.nn.functional.cross_entropy(logits[image, place], torch.tensor(0))
            for look, logits in enumerate(told)
        )
        torch.testing.assert_close(costs[image, thing, place], expected)
    torch.testing.assert_close(costs[1, 1], torch.zeros(5))

"""Steps down: gradients, and how the optimizers move the weights by them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from training.learner import Kind, Learner, Part

_LONGEST_GRADIENT = 1.0


class Descent:
    """Takes steps, each of parts whose losses are averaged."""

    def __init__(self, learner: Learner) -> None:
        """Make the optimizers: Muon's for matrices, AdamW for all else."""
        self.learner = learner
        matrices, others = _sort_parameters(learner)
        on_gpu = learner.device.type == "cuda"
        # A recorded step reads the rates from the device, and one kernel moves all that AdamW moves.
        rates = list(torch.zeros(2, device=learner.device)) if on_gpu else [0.0, 0.0]
        recordable: dict[str, Any] = {"capturable": True, "fused": True} if on_gpu else {}
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, momentum=0.95, precision=learner.precision),
            torch.optim.AdamW(others, lr=rates[1], betas=(0.9, 0.98), weight_decay=0.0, **recordable),
        ]
        self.optimizers[0].param_groups[0]["lr"] = rates[0]

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the rate of each optimizer, for the next step."""
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def take(self, kind: Kind, parts: Sequence[Part]) -> Tensor:
        """Take a step; return [num_figures], the means of what it tells, nan where it tells nothing."""
        self.learner.zero_grad(set_to_none=True)  # what has no gradient does not move
        for part in parts:
            self._learn(kind, part.map(self._bring), 1 / len(parts))
        self._move()
        return self.learner.figures.means.clone()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the optimizers' states."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from what `state_dict` returned, on this device or another."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            for theirs, mine in zip(state["param_groups"], optimizer.param_groups, strict=True):
                theirs |= {name: value for name, value in mine.items() if name != "params"}
            optimizer.load_state_dict(state)

    def _bring(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.learner.device, non_blocking=True)

    def _learn(self, kind: Kind, part: Part, weight: float) -> None:
        """Add the gradients of a part that is on the device."""
        (self.learner.judge(kind, part) * weight).backward()  # type: ignore[no-untyped-call]

    def _move(self) -> None:
        """Move the weights, and close the figures."""
        model = self.learner.model
        self.learner.figures.add("norm", nn.utils.clip_grad_norm_(model.parameters(), _LONGEST_GRADIENT))
        for optimizer in self.optimizers:
            optimizer.step()
        self.learner.figures.close()


class Recorder:
    """Records graphs, whose memory is shared since one runs at a time."""

    def __init__(self, *, is_on: bool) -> None:
        """Record, or leave all work as it is."""
        self.is_on = is_on
        self._pool: Any = None  # a handle of torch's

    def record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Record work without doing it; None, here and from now on, where the device cannot."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # "thread_local": the loader's own thread calls the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            self.is_on = False
            reason = error.__context__ or error
            print(f"steps go on without graphs, and slowly: {reason}", flush=True)  # noqa: T201
            torch.cuda.set_stream(before)  # which a failed recording does not bring back
            return None
        self._pool = graph.pool()
        return graph


class Work:
    """What is done again and again on the same tensors: first as it is, then as a graph."""

    def __init__(self, work: Callable[[], None], recorder: Recorder) -> None:
        """Take the work; nothing is done yet."""
        self._work, self._recorder = work, recorder
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_known = False

    def do(self) -> None:
        """Do it. The first time loads kernels and makes what stays, which no graph could."""
        if self._is_known and self._graph is None and self._recorder.is_on:
            self._graph = self._recorder.record(self._work)
        self._is_known = True
        if self._graph is None:
            self._work()
        else:
            self._graph.replay()


class GraphedDescent(Descent):
    """Takes the same steps with a few launches each: a graph for each shape of a part, and one that moves."""

    def __init__(self, learner: Learner, *, records: bool = True) -> None:
        """Begin without graphs: each is recorded when its shape comes for the second time."""
        super().__init__(learner)
        self._recorder = Recorder(is_on=records)
        self._moved: dict[Kind, list[nn.Parameter]] = {}
        self._gradients: dict[nn.Parameter, Tensor] = {}
        """Where graphs add; all 0 between steps."""
        self._parts: dict[Hashable, tuple[Part, Work]] = {}
        self._moves: dict[Kind, Work] = {}

    def take(self, kind: Kind, parts: Sequence[Part]) -> Tensor:
        """Take a step, as `Descent` does."""
        if kind not in self._moved:  # the first of its kind tells what it moves
            means = super().take(kind, parts)
            self._moved[kind] = [p for p in self.learner.parameters() if p.grad is not None]
            for parameter in self._moved[kind]:
                self._gradients.setdefault(parameter, torch.zeros_like(parameter))
            self._moves[kind] = Work(self._move_and_clear, self._recorder)
            return means
        self.learner.zero_grad(set_to_none=True)
        for parameter in self._moved[kind]:
            parameter.grad = self._gradients[parameter]
        for part in parts:
            self._add(kind, part, 1 / len(parts))
        self._moves[kind].do()
        return self.learner.figures.means.clone()

    def _add(self, kind: Kind, part: Part, weight: float) -> None:
        """Add the gradients of a part that may be anywhere."""
        key = (kind, weight, *(tensor.shape for tensor in part.tensors()))
        if key not in self._parts:
            mine = part.map(lambda tensor: torch.empty_like(tensor, device=self.learner.device))
            self._parts[key] = mine, Work(partial(self._learn, kind, mine, weight), self._recorder)
        mine, work = self._parts[key]
        for here, there in zip(mine.tensors(), part.tensors(), strict=True):
            here.copy_(there, non_blocking=True)
        work.do()

    def _move_and_clear(self) -> None:
        self._move()
        torch._foreach_zero_([p.grad for p in self.learner.parameters() if p.grad is not None])


def _sort_parameters(learner: Learner) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the matrices of the model that are no tables, and all else."""
    matrices: list[nn.Parameter] = []
    others = list(learner.heads.parameters())
    for name, parameter in learner.model.named_parameters():
        is_table = any(part in name for part in ("embed", "latents", "lm_head"))
        (matrices if parameter.ndim == 2 and not is_table else others).append(parameter)
    return matrices, others

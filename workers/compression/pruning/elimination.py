"""Which of a few columns go one after another, each time the one whose absence costs least.

A column takes a dozen small operations, and a GPU does them faster than Python asks for them. So a GPU has them as one
CUDA graph for all columns of a round; its first round takes the graph, the others replay it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Elimination:
    """Rounds of eliminations. A GPU's graph is taken by the first and lives as long as this: no longer than the work on
    one model, since what is freed after a trial may be what a graph works on."""

    columns: int
    """How many columns a whole round chooses among."""
    steps: int
    """How many of them it takes."""
    _graphs: dict[torch.device, _Graph | None] = field(init=False, default_factory=dict)
    """A whole round's graph on each device; None where it can't be taken."""

    def round(self, weight: torch.Tensor, inverse: torch.Tensor, count: int) -> torch.Tensor:
        """The `count` columns that go, one after another: int64 (count,), at most `steps`.

        weight: float64 (rows, columns). inverse: float64 (columns, columns) of the inverse Hessian.
        """
        graph = self._graph_on(weight.device) if weight.is_cuda and len(inverse) == self.columns else None
        work = _Work.empty(weight.device, len(inverse), count) if graph is None else graph.work
        torch.matmul(weight.T, weight, out=work.both[0])
        work.both[1].copy_(inverse)
        if graph is None:
            work.run()
        else:
            graph.graph.replay()
        return work.chosen[:count].clone()

    def _graph_on(self, device: torch.device) -> _Graph | None:
        if device not in self._graphs:
            self._graphs[device] = _taken(device, self.columns, self.steps)
        return self._graphs[device]


@dataclass(frozen=True, slots=True)
class _Work:
    """What a round works on; all float64 but the last two."""

    both: torch.Tensor
    """(2, columns, columns): the weight's products and the inverse, brought up to date by one product."""
    left: torch.Tensor
    right: torch.Tensor
    gone: torch.Tensor
    """bool (columns,)."""
    chosen: torch.Tensor
    """int64 (steps,)."""

    @classmethod
    def empty(cls, device: torch.device, width: int, steps: int) -> _Work:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        gone = torch.zeros(width, dtype=torch.bool, device=device)
        chosen = torch.zeros(steps, dtype=torch.int64, device=device)
        return cls(zeros(2, width, width), zeros(2, width, 2), zeros(2, 2, width), gone, chosen)

    def run(self) -> None:
        """Choose all columns; the products and the inverse are then those without them."""
        self.gone.fill_(False)
        for step in range(len(self.chosen)):
            squares, own = self.both.diagonal(dim1=1, dim2=2)
            # A tensor as index: the device goes on without waiting for the host.
            column = (squares / own).masked_fill(self.gone, torch.inf).argmin().reshape(1)
            self.chosen[step : step + 1].copy_(column)
            self.gone.index_fill_(0, column, True)
            rows = self.both.index_select(1, column)[:, 0]
            product, entry = rows.index_select(1, column)
            share = rows[1] / entry
            # With w the column and s its share of the others, W becomes W - w sᵀ: of the products p = wᵀ W goes
            # p sᵀ + s (p - p_w s)ᵀ, of the inverse its row times sᵀ.
            self.left[:, :, 0] = rows
            self.left[0, :, 1] = share
            self.right[:, 0] = share
            torch.addcmul(rows[0], product, share, value=-1.0, out=self.right[0, 1])
            self.both.baddbmm_(self.left, self.right, alpha=-1.0)


@dataclass(frozen=True, slots=True)
class _Graph:
    work: _Work
    graph: torch.cuda.CUDAGraph


def _taken(device: torch.device, width: int, steps: int) -> _Graph | None:
    work, graph = _Work.empty(device, width, steps), torch.cuda.CUDAGraph()
    # Any numbers do; a run before the graph is taken readies the libraries.
    work.both.copy_(torch.eye(width, dtype=torch.float64, device=device))
    work.run()
    work.both.copy_(torch.eye(width, dtype=torch.float64, device=device))
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work.run()
    except RuntimeError as error:
        _log.info("columns are eliminated without a CUDA graph: %s", str(error).splitlines()[0])
        return None
    return _Graph(work, graph)

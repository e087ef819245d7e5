"""What the steps since the last look came to, added up on the device: a GPU is not waited for between two looks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workers.runtime.training_progress import StepWindow


class Meter:
    """clock: in seconds; the meter counts from its making, or from the last `read` or `restart`."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loss = torch.zeros((), device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self.restart()

    def restart(self) -> None:
        """Forget what was added."""
        self._loss.zero_()
        self._finite.fill_(True)
        self._tokens = self._targets = 0
        self._since = self._clock()

    def add(self, loss: torch.Tensor, norm: torch.Tensor, tokens: int, targets: int) -> None:
        """loss: summed over a step's target tokens; norm: of its gradient; both () on the device."""
        self._loss += loss
        self._finite &= torch.isfinite(loss) & torch.isfinite(norm)
        self._tokens += tokens
        self._targets += targets

    @property
    def is_empty(self) -> bool:
        return self._tokens == 0

    @property
    def age(self) -> float:
        """Seconds since it was last read."""
        return self._clock() - self._since

    def read(self) -> tuple[StepWindow, bool]:
        """Wait for the device, and say what was read since the last time and whether all of it was finite."""
        loss, finite = torch.stack((self._loss.double(), self._finite.double())).tolist()
        window = StepWindow(self._tokens, self._targets, loss, self.age)
        self.restart()
        return window, bool(finite)

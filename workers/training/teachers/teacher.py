"""Teachers: what the uncompressed model says of a batch's target tokens, asked as training goes or kept beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from search_spaces.errors import StudyError
from workers.failures.table import is_out_of_memory
from workers.training.data.batches import TrainingBatch
from workers.training.losses.cached import Likeliest, cached_divergence, likeliest
from workers.training.losses.divergences import divergence
from workers.training.losses.layer_map import kept_outputs
from workers.training.losses.packed_attention import take_up
from workers.training.losses.readout import Readout, chunks, refuse_other_logits
from workers.training.teachers.cache import TeacherCache

# The logit of what a teacher has no token for: its probability is 0, and the logarithm of that is finite.
_NEVER = -1e4


class TeacherOutput(Protocol):
    """What a teacher says of the n target tokens of one batch."""

    @property
    def hidden(self) -> Mapping[int, torch.Tensor]:
        """Layer -> hidden states (sequences, tokens, width), of the layers that were asked for."""
        ...

    def divergence(self, name: str, logits: torch.Tensor, ids: torch.Tensor, share: float, rows: slice) -> torch.Tensor:
        """(1 − share) · the divergence of this name + share · cross-entropy on ids, of some of the target tokens.

        logits: the student's (tokens of rows, vocabulary). ids: the reference's (tokens of rows,). Answers (tokens,).
        """
        ...


class Teacher(Protocol):
    """A model to learn from."""

    @property
    def vocabulary(self) -> int:
        """Columns of its logits."""
        ...

    def says(self, batch: TrainingBatch, layers: Sequence[int] = ()) -> TeacherOutput:
        """What it says of the batch's target tokens, and the hidden states that these layers put out."""
        ...


class VocabularyPart:
    """The columns of a teacher's logits that a student is compared with. columns: int64 (n,), -1 for none.

    The head's rows for them are held once more where the head is a plain matrix, so that no others are worked out.
    """

    def __init__(self, readout: Readout, columns: torch.Tensor) -> None:
        head = readout.head
        self.columns = columns.to(readout.device).clamp(min=0)
        unknown = columns < 0
        self._unknown = unknown.to(readout.device) if bool(unknown.any()) else None
        plain = type(head) is torch.nn.Linear and head.bias is None
        self._rows = head.weight.detach().index_select(0, self.columns) if plain else None

    def logits(self, readout: Readout, states: torch.Tensor) -> torch.Tensor:
        """Logits (tokens, n) of hidden states (tokens, width)."""
        if self._rows is not None:
            said = readout.logits(states, self._rows)
        else:
            said = readout.logits(states).index_select(1, self.columns)
        return said if self._unknown is None else said.masked_fill_(self._unknown, _NEVER)


@dataclass(frozen=True, slots=True)
class FullDistribution:
    """states: hidden states before the head at the predicting positions (n, width). Logits are made from them when and
    where they are needed, so that a large vocabulary is never held for all tokens. part: of a student that has a part
    of them; the others' mass is then left out."""

    readout: Readout
    states: torch.Tensor
    hidden: Mapping[int, torch.Tensor] = field(default_factory=dict)
    part: VocabularyPart | None = None

    def divergence(self, name: str, logits: torch.Tensor, ids: torch.Tensor, share: float, rows: slice) -> torch.Tensor:
        return divergence(name, logits, self.logits(rows), ids, share)

    def logits(self, rows: slice) -> torch.Tensor:
        """The teacher's logits (tokens of rows, vocabulary)."""
        with _as_stored(self.states.device):
            states = self.states[rows]
            return self.readout.logits(states) if self.part is None else self.part.logits(self.readout, states)


@dataclass(frozen=True, slots=True)
class TopKDistribution:
    """The k likeliest tokens and the mass of the rest."""

    likeliest: Likeliest
    hidden: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def divergence(self, name: str, logits: torch.Tensor, ids: torch.Tensor, share: float, rows: slice) -> torch.Tensor:
        return cached_divergence(name, logits, self.likeliest.rows(rows), ids, share)


class LiveTeacher:
    """A model that is asked as training goes: no gradient, in eval mode, in the type it was loaded in.

    model: a causal LM on the device where batches are. columns: int64 (n,), for each of a student's logits which of the
    model's it is compared with, -1 for none; None where they are the same. Raises ModelFilesError on the first batch if
    the model does to its logits what `Readout` does not know.
    """

    def __init__(self, model: Any, columns: torch.Tensor | None = None) -> None:
        self.readout = Readout(model.eval().requires_grad_(False))
        self._part = None if columns is None else VocabularyPart(self.readout, columns)
        self._checked = False
        self._packs = False

    def pack(self) -> bool:
        """Read batches without padding from now on, if it can, and say whether it does. It then keeps no hidden states
        for matching."""
        self._packs = take_up(self.readout)
        return self._packs

    @property
    def vocabulary(self) -> int:
        return self.readout.vocabulary if self._part is None else len(self._part.columns)

    @property
    def width(self) -> int:
        """Of its hidden states."""
        return self.readout.width

    @property
    def layers(self) -> int:
        return len(self.readout.layers)

    def says(self, batch: TrainingBatch, layers: Sequence[int] = ()) -> FullDistribution:
        if batch.teacher is not None:
            batch = batch.teacher.batch
        with _as_stored(batch.ids.device):
            if not self._checked:
                refuse_other_logits(self.readout, batch.ids)
                self._checked = True
            with kept_outputs(self.readout.layers, layers) as hidden:
                states = self.readout.states(batch.ids, batch.packing if self._packs else None)
            at_targets = states.flatten(0, 1).index_select(0, batch.predicting)
            return FullDistribution(self.readout, at_targets, hidden, self._part)

    def likeliest(self, batch: TrainingBatch, k: int) -> Likeliest:
        """The k likeliest tokens of each target token, and the mass of the rest."""
        said = self.says(batch)
        parts = [likeliest(said.logits(rows), k) for rows in chunks(said.states, self.readout.vocabulary)]
        tails = [part.tail for part in parts if part.tail is not None]
        return Likeliest(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.logs for part in parts]),
            torch.cat(tails) if tails else None,
        )


class CachedTeacher:
    """A teacher read from its cache; sequences that are not there yet are asked of `live`, and kept.

    Raises StudyError for such a sequence when there is no live teacher.
    """

    def __init__(self, cache: TeacherCache, live: LiveTeacher | None = None) -> None:
        self._cache = cache
        self._live = live

    @property
    def vocabulary(self) -> int:
        return self._cache.vocabulary

    def says(self, batch: TrainingBatch, layers: Sequence[int] = ()) -> TopKDistribution:
        if layers:
            raise ValueError("a cached teacher keeps no hidden states; use a live one")
        if missing := self._cache.missing(batch.rows):
            if self._live is None:
                raise StudyError(
                    f"{len(missing)} of {len(batch.rows)} sequences are not in the teacher's cache, and no teacher is "
                    "loaded to ask; fill the cache first, or use teacher: live"
                )
            _keep(self._cache, self._live, batch)
        return TopKDistribution(self._cache.read(batch.rows, batch.ids.device))

    def flush(self) -> None:
        """Put on disk what was asked of the live teacher since the last time."""
        self._cache.flush()


def fill(
    cache: TeacherCache,
    live: LiveTeacher,
    batches: Iterable[TrainingBatch],
    device: torch.device,
    report: Callable[[int], None] = lambda read: None,
) -> TrainingBatch | None:
    """Ask the teacher of every batch that the cache lacks a sequence of, and keep the answers on disk.

    report: told the real tokens read so far. Answers None, or the first batch of several sequences that memory did not
    suffice for, with what came before it kept; of a single sequence, raises the device's own error.
    """
    read = 0
    too_large: TrainingBatch | None = None
    for batch in batches:
        try:
            if cache.missing(batch.rows):
                _keep(cache, live, batch.to(device))
        except Exception as error:
            if not is_out_of_memory(error) or len(batch.rows) == 1:
                raise
            too_large = batch
            break
        read += batch.tokens
        report(read)
    cache.flush()
    return too_large


def live_teacher(
    folder: Path, device: torch.device, trust_remote_code: bool = False, columns: torch.Tensor | None = None
) -> LiveTeacher:
    """The model of this folder as a teacher: bfloat16 on a GPU, float32 on a CPU. columns: see `LiveTeacher`. Raises
    what `load_model` raises."""
    from workers.loading.load import load_model

    return LiveTeacher(load_model(folder, str(device), trust_remote_code), columns)


def _keep(cache: TeacherCache, live: LiveTeacher, batch: TrainingBatch) -> None:
    """Ask the teacher of the batch, and put what it says into the cache; sequences that are there stay as they are."""
    counts = batch.target[:, 1:].sum(-1).tolist()
    cache.put(batch.rows, counts, live.likeliest(batch, cache.k))


@contextmanager
def _as_stored(device: torch.device) -> Iterator[None]:
    """No gradient, and no autocast: a teacher says the same within a student's training step and outside it."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield

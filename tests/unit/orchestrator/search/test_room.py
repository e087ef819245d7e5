"""Room in a study's own store: what nobody needs goes, what somebody needs stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.search import room
from orchestrator.search.proposals import Proposer
from orchestrator.search.room import make_room, may_go, needed_bytes, stored_artefacts
from search_spaces.candidate import Candidate
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import Step, step_to_json
from search_spaces.predicted_size import predicted_bytes
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, llama_table
from workers.runtime.artefact_store import ArtefactStore

PRUNED = RemoveLayers(count=1)
RTN4, RTN8 = RTN(bits=4), RTN(bits=8)


def put(store: Path, key: str, steps: tuple[Step, ...] | None, size: int = 1000) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "model.safetensors").write_bytes(b"x" * size)
        return {} if steps is None else {"steps": [step_to_json(step) for step in steps]}

    ArtefactStore(store).get(key, build)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    put(tmp_path, "statistics-a", None, 5000)
    put(tmp_path, "pruned", (PRUNED,))
    put(tmp_path, "pruned-4", (PRUNED, RTN4))
    put(tmp_path, "four", (RTN4,))
    put(tmp_path, "eight", (RTN8,))
    put(tmp_path, "pairs-b", None)
    (tmp_path / ".draft-x").mkdir()
    return tmp_path


def names(found: list[room.Stored]) -> set[str]:
    return {one.path.name for one in found}


def test_what_is_on_the_frontier_and_what_is_under_way_stay(store: Path) -> None:
    whole = [Candidate(BASE), Candidate(BASE, (RTN8,))]
    pending = [Candidate(BASE, (PRUNED, RTN8))]
    assert names(may_go(stored_artefacts(store), whole, pending, shared=False)) == {"pruned-4", "four"}
    # A frontier point's parents can be made again; statistics go last.
    free = may_go(stored_artefacts(store), [Candidate(BASE, (PRUNED, RTN4))], [], shared=True)
    assert names(free) == {"pruned", "four", "eight", "statistics-a"} and free[-1].path.name == "statistics-a"


def test_what_goes_is_gone_whole_and_can_be_made_again(store: Path) -> None:
    free = may_go(stored_artefacts(store), [Candidate(BASE, (RTN8,))], [], shared=True)
    assert make_room(free, store, wanted=None) == 8000
    assert names(stored_artefacts(store)) == {"eight", "pairs-b"}
    assert ArtefactStore(store).find("four") is None
    put(store, "four", (RTN4,))
    assert ArtefactStore(store).find("four") is not None


def test_no_more_goes_than_is_wanted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        """Each look finds more room than the last."""

        free = 0

        def __call__(self, folder: Path) -> Disk:
            self.free += 1000
            return self

    monkeypatch.setattr(room.shutil, "disk_usage", Disk())
    free = may_go(stored_artefacts(store), [], [], shared=False)
    assert make_room(free, store, wanted=2500) == 2000
    assert len(stored_artefacts(store)) == 4
    assert make_room([], store, wanted=None) == 0


def test_a_candidate_needs_room_for_what_is_written_beside_it() -> None:
    assert needed_bytes(10**9, 10**12) == 1.5 * 10**9 + room.RESERVE
    assert needed_bytes(10**6, 10**8) == 11.5 * 10**6
    proposer = Proposer(BASE, llama_table(), SPACES["bit-width"], trials=3, seed=0)
    pruned, whole = (Candidate(BASE, steps) for steps in ((PRUNED,), (PRUNED, RTN4)))
    alone = proposer.bytes_to_make(pruned)
    assert proposer.bytes_to_make(Candidate(BASE)) == 0
    assert proposer.bytes_to_make(whole) == alone + predicted_bytes(llama_table(), whole.steps) < 2 * alone
    assert stored_artefacts(Path("/nowhere/at/all")) == []

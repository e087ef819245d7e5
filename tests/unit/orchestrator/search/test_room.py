"""Room in a study's own store: what nobody needs goes, what somebody needs stays."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.search import room
from orchestrator.search.proposals import Proposer
from orchestrator.search.room import make_room, may_go, needed_bytes, reserved_bytes, stored_artefacts, within_limit
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


def test_what_is_made_again_soonest_for_its_bytes_goes_first(tmp_path: Path) -> None:
    seconds = {"slow": 40.0, "quick": 2.0, "large": 40.0}
    held = [
        room.Stored(tmp_path / name, 10**6 if name == "large" else 1000, [step_to_json(RTN(bits=bits))], seconds[name])
        for name, bits in zip(seconds, (2, 3, 4), strict=True)
    ]
    found = may_go(held, [], [], shared=False)
    assert [one.path.name for one in found] == ["large", "quick", "slow"]
    gone = within_limit(held, found, reserved=500, limit=1_002_000)
    assert [one.path.name for one in gone] == ["large"]
    assert within_limit(held, found, reserved=0, limit=1_002_000) == []
    assert within_limit(held, found, reserved=10**9, limit=10) == found


def test_the_store_knows_what_an_artefact_took(tmp_path: Path) -> None:
    put(tmp_path, "four", (RTN4,))
    (one,) = stored_artefacts(tmp_path)
    assert 0.0 <= one.seconds < 10.0
    manifest = one.path / "artefact.json"
    before = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({key: value for key, value in before.items() if key != "seconds"}))
    assert stored_artefacts(tmp_path)[0].seconds == 0.0


def test_what_pending_candidates_share_is_reserved_once(store: Path) -> None:
    pending = [Candidate(BASE, (PRUNED, RTN8)), Candidate(BASE, (PRUNED, RTN(bits=3))), Candidate(BASE, (RTN(bits=3),))]
    predicted = lambda candidate, length: 10**length + (candidate.steps[length - 1] == RTN(bits=3))  # noqa: E731
    # The pruned model is there; three last steps are not.
    assert reserved_bytes(stored_artefacts(store), pending, predicted) == 100 + 101 + 11
    assert reserved_bytes([], pending, predicted) == 10 + 100 + 101 + 11
    assert reserved_bytes([], [Candidate(BASE)], predicted) == 0


def test_by_default_the_limit_is_half_of_what_is_free_and_what_is_held(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert room.default_limit(store) == 10_000 + 500
    assert room.default_limit(store / "not" / "yet") == 500


def test_what_goes_is_gone_whole_and_can_be_made_again(store: Path) -> None:
    free = may_go(stored_artefacts(store), [Candidate(BASE, (RTN8,))], [], shared=True)
    assert make_room(free, store, wanted=None) == 8000
    assert names(stored_artefacts(store)) == {"eight", "pairs-b"}
    assert ArtefactStore(store).find("four") is None
    put(store, "four", (RTN4,))
    assert ArtefactStore(store).find("four") is not None


def test_what_goes_beside_the_work_is_out_of_sight_at_once_and_gone_soon(store: Path) -> None:
    free = may_go(stored_artefacts(store), [], [], shared=False)
    assert make_room(free, store, wanted=None, beside=True) == 4000
    assert names(stored_artefacts(store)) == {"statistics-a", "pairs-b"}
    ends = time.monotonic() + 10
    while list(store.glob(".draft-*-gone")):
        assert time.monotonic() < ends


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

"""The artefact store: built once, never half, whoever else builds or dies."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.fakes import BrokenLock
from tests.support.paths import ROOT
from workers.runtime.artefact_store import MANIFEST, Artefact, ArtefactStore

DIES_HALF_WAY = """
import os, sys, time
from pathlib import Path
from workers.runtime.artefact_store import ArtefactStore

def build(folder):
    (folder / "config.json").write_text("{}")
    with (folder / "weights.bin").open("wb") as stream:
        stream.write(b"half of ")
        stream.flush()
        os._exit(9)

ArtefactStore(Path(sys.argv[1])).get("key", build)
"""


class Builder:
    """Writes two files, and counts how often it was asked to."""

    def __init__(self, content: bytes = b"weights") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        assert list(folder.iterdir()) == []
        self.calls += 1
        (folder / "config.json").write_text("{}")
        (folder / "weights.bin").write_bytes(self.content)
        return {"built by": self.content.decode(), "notes": ["ä"]}


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "not" / "yet" / "made")


def test_others_may_read_what_a_library_wrote_for_its_user_alone(store: ArtefactStore, tmp_path: Path) -> None:
    linked = tmp_path / "of-others"
    linked.write_text("x")
    linked.chmod(0o600)

    def build(folder: Path) -> dict[str, Any]:
        save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        (folder / "run.sh").write_text("")
        (folder / "run.sh").chmod(0o700)
        (folder / "linked").symlink_to(linked)
        return {}

    before = os.umask(0o022)
    try:
        found = store.get("key", build)
    finally:
        os.umask(before)
    rights = {file.name: file.stat().st_mode & 0o777 for file in found.path.iterdir()}
    assert rights == {
        "model.safetensors": 0o644, "config.json": 0o644, "run.sh": 0o744, "linked": 0o600, MANIFEST: 0o644,
    }  # fmt: skip


def test_nothing_is_found_where_nothing_was_built(store: ArtefactStore) -> None:
    assert store.find("key") is None
    assert not store.root.exists()


def test_an_artefact_is_built_once(store: ArtefactStore) -> None:
    build = Builder()
    first = store.get("key", build)
    second = store.get("key", build)
    assert build.calls == 1
    assert first == second == store.find("key")
    assert first == Artefact(store.root / "key", {"built by": "weights", "notes": ["ä"]})
    assert sorted(file.name for file in first.path.iterdir()) == sorted([MANIFEST, "config.json", "weights.bin"])


def test_each_key_has_its_own_artefact(store: ArtefactStore) -> None:
    one, two = store.get("one", Builder(b"1")), store.get("two", Builder(b"2"))
    assert (one.path / "weights.bin").read_bytes() == b"1"
    assert (two.path / "weights.bin").read_bytes() == b"2"


def test_a_build_that_raises_leaves_nothing_behind(store: ArtefactStore) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(b"half")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        store.get("key", build)
    assert store.find("key") is None
    assert list(store.root.iterdir()) == []
    assert (store.get("key", Builder()).path / "weights.bin").read_bytes() == b"weights"


def test_a_manifest_that_json_cannot_hold_leaves_nothing_behind(store: ArtefactStore) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(b"whole")
        return {"about": object()}

    with pytest.raises(TypeError):
        store.get("key", build)
    assert store.find("key") is None
    assert list(store.root.iterdir()) == []


def test_what_a_killed_process_left_is_never_taken(store: ArtefactStore) -> None:
    killed = subprocess.run([sys.executable, "-c", DIES_HALF_WAY, str(store.root)], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == 9
    assert [file.read_bytes() for file in store.root.rglob("weights.bin")] == [b"half of "]

    assert store.find("key") is None
    build = Builder()
    assert (store.get("key", build).path / "weights.bin").read_bytes() == b"weights"
    assert build.calls == 1


@pytest.mark.parametrize("damage", [b"weight", b"weights and more", None])
def test_a_changed_or_missing_file_is_noticed_and_built_anew(store: ArtefactStore, damage: bytes | None) -> None:
    file = store.get("key", Builder()).path / "weights.bin"
    file.write_bytes(damage) if damage is not None else file.unlink()
    assert store.find("key") is None

    build = Builder()
    assert (store.get("key", build).path / "weights.bin").read_bytes() == b"weights"
    assert build.calls == 1


def test_a_folder_without_a_manifest_is_replaced(store: ArtefactStore) -> None:
    (store.root / "key").mkdir(parents=True)
    (store.root / "key" / "weights.bin").write_bytes(b"of unknown origin")
    assert (store.get("key", Builder()).path / "weights.bin").read_bytes() == b"weights"


def test_of_those_who_ask_at_once_one_builds_and_the_others_wait_for_it(store: ArtefactStore) -> None:
    together = threading.Barrier(4)
    begun: list[int] = []
    given: list[Artefact] = []

    def run(number: int) -> None:
        def build(folder: Path) -> dict[str, Any]:
            begun.append(number)
            time.sleep(0.3)
            return Builder(bytes([number]))(folder)

        together.wait(timeout=20)
        given.append(store.get("key", build))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (builder,) = begun
    kept = store.find("key")
    assert kept is not None
    assert given == [kept] * 4
    assert (kept.path / "weights.bin").read_bytes() == bytes([builder])
    assert [folder.name for folder in store.root.iterdir()] == ["key"]


def test_what_another_builds_meanwhile_under_another_key_is_not_waited_for(store: ArtefactStore) -> None:
    other = Builder(b"other")

    def build(folder: Path) -> dict[str, Any]:
        store.get("other", other)
        return Builder()(folder)

    store.get("key", build)
    assert other.calls == 1


def test_another_queue_is_not_waited_for(store: ArtefactStore) -> None:
    other = Builder(b"other")

    def build(folder: Path) -> dict[str, Any]:
        assert store.get("key", other, "-sharded") == store.find("key")
        store.sweep()
        return Builder()(folder)

    assert store.get("key", build).about["built by"] == "other"
    assert [folder.name for folder in store.root.iterdir()] == ["key"]


@pytest.mark.parametrize("end", ["os._exit(9)", "raise RuntimeError"])
def test_who_waited_for_one_that_failed_or_was_killed_builds_it(store: ArtefactStore, end: str) -> None:
    code = DIES_HALF_WAY.replace("os._exit(9)", f"print('begun', flush=True); time.sleep(1); {end}")
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert first.stdout is not None and first.stdout.readline() == "begun\n"
    build = Builder()
    assert first.poll() is None
    assert (store.get("key", build).path / "weights.bin").read_bytes() == b"weights"
    assert first.wait(timeout=10) != 0
    assert build.calls == 1


@pytest.mark.parametrize("locks", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_two_may_build_and_the_first_result_is_kept(
    store: ArtefactStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, locks: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", BrokenLock(locks))
    late = Builder(b"late")

    def build(folder: Path) -> dict[str, Any]:
        store.get("key", late)
        return Builder()(folder)

    assert store.get("key", build) == store.find("key")
    assert (store.root / "key" / "weights.bin").read_bytes() == b"late"
    assert f"{store.root} can't be locked ({os.strerror(locks)}): see to it that nobody else works there" in caplog.text


def test_a_lock_that_fails_otherwise_is_an_error(store: ArtefactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", BrokenLock(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        store.get("key", Builder())


def test_what_killed_builders_left_is_swept_away_and_what_is_being_built_is_not(store: ArtefactStore) -> None:
    store.get("kept", Builder())
    subprocess.run([sys.executable, "-c", DIES_HALF_WAY, str(store.root)], cwd=ROOT, check=False, timeout=60)
    assert len(list(store.root.iterdir())) == 3

    def build(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(b"half")
        store.sweep()
        return {}

    assert (store.get("under-way", build).path / "weights.bin").read_bytes() == b"half"
    assert sorted(folder.name for folder in store.root.iterdir()) == ["kept", "under-way"]

"""The teacher's cache: what goes in comes out, whoever wrote it, however its writer ended."""

from __future__ import annotations

import errno
import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.training.losses.cached import Likeliest, likeliest
from workers.training.teachers.cache import TeacherCache, open_cache

CPU = torch.device("cpu")
VOCABULARY = 200
ABOUT = {"teacher": "sha256:1", "pairs": "2"}


def said(tokens: int, seed: int = 0, vocabulary: int = VOCABULARY, k: int = 8) -> Likeliest:
    torch.manual_seed(seed)
    return likeliest(4 * torch.randn(tokens, vocabulary), k)


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    return open_cache(tmp_path, ABOUT, VOCABULARY, k=8)


def equal(found: Likeliest, expected: Likeliest) -> bool:
    assert found.tail is not None and expected.tail is not None
    logs = expected.logs.bfloat16().float()
    return bool(
        torch.equal(found.ids, expected.ids)
        and torch.equal(found.logs, logs)
        and torch.equal(found.tail, expected.tail)
    )


def test_what_goes_in_comes_out_in_any_order(cache: TeacherCache) -> None:
    first, second = said(5), said(4, seed=1)
    cache.put([3, 9], [2, 3], first)
    cache.put([0], [4], second)
    assert cache.missing([9, 1, 0, 3, 1]) == [1]
    assert cache.tokens == 9
    assert equal(cache.read([3, 9], CPU), first)
    found = cache.read([0, 9], CPU)
    assert equal(found.rows(slice(0, 4)), second)
    assert equal(found.rows(slice(4, 7)), first.rows(slice(2, 5)))


def test_a_cache_outlives_its_writer(cache: TeacherCache, tmp_path: Path) -> None:
    cache.put([3, 9], [2, 3], said(5))
    cache.close()
    again = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
    assert equal(again.read([3, 9], CPU), said(5))
    # A second writer has a shard of its own, and what is known is not written twice.
    again.put([9, 4], [3, 1], said(4, seed=5))
    assert again.tokens == 6
    assert equal(again.read([3, 9], CPU), said(5))
    again.close()
    assert len(list(tmp_path.glob("teacher-*/*.tokens"))) == 2


def test_a_cache_that_nobody_closes_is_flushed(tmp_path: Path) -> None:
    forgotten = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
    forgotten.put([3, 9], [2, 3], said(5))
    del forgotten
    gc.collect()
    assert equal(open_cache(tmp_path, ABOUT, VOCABULARY, k=8).read([3, 9], CPU), said(5))


def test_two_writers_at_once(cache: TeacherCache, tmp_path: Path) -> None:
    other = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
    cache.put([1], [2], said(2))
    other.put([2], [3], said(3, seed=1))
    cache.close()
    other.close()
    both = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
    assert equal(both.read([1], CPU), said(2))
    assert equal(both.read([2], CPU), said(3, seed=1))


def test_other_content_has_another_cache(cache: TeacherCache, tmp_path: Path) -> None:
    cache.put([1], [2], said(2))
    cache.close()
    for other in (
        open_cache(tmp_path, {**ABOUT, "pairs": "3"}, VOCABULARY, k=8),
        open_cache(tmp_path, ABOUT, VOCABULARY, k=9),
        open_cache(tmp_path, ABOUT, VOCABULARY + 1, k=8),
    ):
        assert other.missing([1]) == [1]


def test_a_killed_writer_leaves_nothing_that_is_believed(cache: TeacherCache, tmp_path: Path) -> None:
    cache.put([1], [2], said(2))
    cache.flush()
    cache.put([2], [3], said(3, seed=1))
    # Killed: the data of 2 is there, its entry is not; then with half an entry written.
    (index,) = tmp_path.glob("teacher-*/*.rows")
    for cut in (b"", b"\x02\0\0\0\0\0\0\0\2\0"):
        with index.open("ab") as stream:
            stream.write(cut)
        after = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
        assert after.missing([1, 2]) == [2]
        assert equal(after.read([1], CPU), said(2))


def test_data_that_a_crash_took_is_not_believed(cache: TeacherCache, tmp_path: Path) -> None:
    cache.put([1, 2], [2, 3], said(5))
    cache.close()
    (data,) = tmp_path.glob("teacher-*/*.tokens")
    with data.open("ab") as stream:
        stream.truncate(4 * cache.bytes_per_token)
    after = open_cache(tmp_path, ABOUT, VOCABULARY, k=8)
    assert after.missing([1, 2]) == [2]
    assert equal(after.read([1], CPU), said(5).rows(slice(2)))
    data.unlink()
    assert open_cache(tmp_path, ABOUT, VOCABULARY, k=8).missing([1, 2]) == [1, 2]


def test_a_sequence_without_a_target_is_kept_too(cache: TeacherCache) -> None:
    cache.put([4, 6], [0, 2], said(2))
    assert cache.missing([4, 6]) == []
    assert len(cache.read([4], CPU).ids) == 0
    assert equal(cache.read([4, 6], CPU), said(2))


def test_a_full_disk_loses_no_earlier_record(cache: TeacherCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put([1], [2], said(2))
    writer: Any = cache._writer
    stream = writer._data

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

        def write(self, content: memoryview) -> int:
            if len(content) < 40:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(stream.write(content[:30]))

    writer._data = Full()
    with pytest.raises(OSError, match="No space left"):
        cache.put([2], [3], said(3, seed=1))
    writer._data = stream
    cache.put([4], [3], said(3, seed=2))
    assert cache.missing([1, 2, 4]) == [2]
    assert equal(cache.read([1], CPU), said(2))
    assert equal(cache.read([4], CPU), said(3, seed=2))


def test_bytes_a_token(tmp_path: Path) -> None:
    # 64 ids of 4 or 2 bytes, 64 bfloat16, one float32.
    assert open_cache(tmp_path, ABOUT, 128_256).bytes_per_token == 388
    small = open_cache(tmp_path, ABOUT, 2**16)
    assert small.bytes_per_token == 260
    told = said(40, vocabulary=2**16, k=64)
    assert int(told.ids.max()) > 2**15
    small.put([0], [40], told)
    small.close()
    assert equal(open_cache(tmp_path, ABOUT, 2**16).read([0], CPU), told)
    assert sum(file.stat().st_size for file in tmp_path.glob("teacher-*/*.tokens")) == 40 * 260


def test_ids_beyond_two_bytes(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, ABOUT, 2**16 + 8, k=3)
    told = Likeliest(torch.tensor([[65_540, 0, 65_535]]), -torch.ones(1, 3), torch.tensor([-2.0]))
    cache.put([0], [1], told)
    assert equal(cache.read([0], CPU), told)


def test_a_small_vocabulary_has_no_tail(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, ABOUT, 20)
    cache.put([0], [3], said(3, vocabulary=20, k=64))
    found = cache.read([0], CPU)
    assert found.tail is None
    assert found.ids.shape == (3, 20)


def test_what_is_not_there_or_does_not_fit_is_named(cache: TeacherCache) -> None:
    with pytest.raises(KeyError, match="lacks 2 sequences, 5 among them"):
        cache.read([5, 6], CPU)
    with pytest.raises(ValueError, match="4 target tokens in 2 sequences, and 5 records"):
        cache.put([0, 1], [2, 2], said(5))

"""COMET's cache outlives the process that wrote it, and a line that it never finished."""

from pathlib import Path

from workers.comet.cache import ScoreCache, score_key


def test_scores_are_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "comet" / "scores.jsonl"
    ScoreCache(path).add({"a": 0.1 + 0.2, "b": -1.5})
    again = ScoreCache(path)
    assert (again.get("a"), again.get("b"), again.get("c"), len(again)) == (0.1 + 0.2, -1.5, None, 2)


def test_a_torn_last_line_costs_its_own_score_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    ScoreCache(path).add({"a": 0.25, "b": 0.5})
    path.write_bytes(path.read_bytes()[:-9])
    torn = ScoreCache(path)
    assert (torn.get("a"), torn.get("b")) == (0.25, None)
    torn.add({"b": 0.5})
    torn.add({"c": 0.75})
    whole = ScoreCache(path)
    assert [whole.get(key) for key in "abc"] == [0.25, 0.5, 0.75]


def test_the_key_tells_model_source_hypothesis_and_reference_apart() -> None:
    texts = ("model", "a", "b", "")
    changed = [("other", "a", "b", ""), ("model", "", "ab", ""), ("model", "a", "", "b"), ("model", "b", "a", "")]
    assert len({score_key(*texts), *(score_key(*row) for row in changed)}) == 5
    assert score_key("m", "\ud83d", "b", "c") == score_key("m", "\ud83d", "b", "c")

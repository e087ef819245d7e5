"""Test the data reader on the real data files, where they lie beside the repository."""

import pytest

from tests.support.paths import ROOT
from workers.reading.dataset import read_dataset
from workers.reading.segments import DataSet

DATA = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data files: {DATA} does not exist")

ALMA_TEST = {
    "cs-en": 1448, "de-en": 1984, "is-en": 1000, "ru-en": 2016, "zh-en": 1875,
    "en-cs": 2037, "en-de": 2037, "en-is": 1000, "en-ru": 2037, "en-zh": 2037,
}  # fmt: skip
ALMA_TRAIN = {"cs-en": 12076, "de-en": 14211, "is-en": 2009, "ru-en": 15000, "zh-en": 15406}
ALMA_VALID = {"cs-en": 1002, "de-en": 1002, "ru-en": 1002, "zh-en": 1002}
MULTI30K = {"test_2016_flickr": 1000, "val": 1014, "train": 29000}


@pytest.fixture(scope="module")
def esa() -> DataSet:
    return read_dataset(DATA / "wmt24" / "wmt24_esa.jsonl.gz")


def test_esa_gives_1862_segments_each_with_one_reference(esa: DataSet) -> None:
    assert esa.format == "wmt24_esa" and esa.name == "wmt24_esa.jsonl.gz"
    counts = {pair: sum(segment.langs == pair for segment in esa.segments) for pair in esa.pairs}
    assert counts == {"en-cs": 297, "en-hi": 297, "en-ja": 634, "en-zh": 634}
    assert len(esa.segments) == len({segment.id for segment in esa.segments}) == 1862
    assert esa.without_reference == 0 and esa.left_out == () and esa.bad_rows == ()
    assert all(len(segment.references) == 1 for segment in esa.segments)
    assert {segment.domain for segment in esa.segments} == {"literary", "news", "social", "speech"}


def test_esa_scores_are_means_over_systems(esa: DataSet) -> None:
    scores = [segment.human_score for segment in esa.segments if segment.human_score is not None]
    assert len(scores) == 1862 and min(scores) == 51.5 and max(scores) == 100.0
    assert sum(scores) / len(scores) == pytest.approx(88.4975385, abs=1e-6)


def test_esa_order_and_digest_stay(esa: DataSet) -> None:
    assert esa.segments[0].id == "en-ja:1" and esa.segments[-1].id == "en-cs:853"
    assert esa.digest == "0128ff0b4e001ff2babdcb157c94edda27f36860c83ba89289e884f4d763ab88"


def test_esa_of_one_pair_is_its_segments_of_the_whole(esa: DataSet) -> None:
    czech = read_dataset(DATA / "wmt24" / "wmt24_esa.jsonl.gz", langs="en-cs")
    assert czech.segments == tuple(segment for segment in esa.segments if segment.langs == "en-cs")
    ((reason, count),) = czech.left_out
    assert reason == "rows of other pairs than en-cs" and count > 10_000 and czech.digest != esa.digest


@pytest.mark.parametrize(("split", "counts"), [("test", ALMA_TEST), ("train", ALMA_TRAIN), ("valid", ALMA_VALID)])
def test_alma_takes_its_direction_from_the_name(split: str, counts: dict[str, int]) -> None:
    for pair, count in counts.items():
        data = read_dataset(DATA / "alma" / f"{split}.{pair}.json.gz")
        assert (data.format, data.pairs, len(data.segments)) == ("alma", (pair,), count)
        assert data.bad_rows == () and data.left_out == ()


def test_alma_reads_in_the_other_direction() -> None:
    data = read_dataset(DATA / "alma" / "train.is-en.json.gz", langs="en-is")
    there = read_dataset(DATA / "alma" / "train.is-en.json.gz")
    assert data.pairs == ("en-is",)
    assert [(one.source, one.references[0]) for one in data.segments] == [
        (one.references[0], one.source) for one in there.segments
    ]


@pytest.mark.parametrize("target", ["cs", "de", "fr"])
@pytest.mark.parametrize(("split", "count"), MULTI30K.items())
def test_multi30k_is_parallel_text(split: str, count: int, target: str) -> None:
    folder = DATA / "multi30k"
    data = read_dataset(folder / f"{split}.en.gz", references=folder / f"{split}.{target}.gz")
    assert (data.format, data.pairs, len(data.segments)) == ("parallel_text", (f"en-{target}",), count)
    assert data.bad_rows == ()

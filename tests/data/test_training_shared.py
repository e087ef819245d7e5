"""Training data on the real files: ALMA's pairs in both directions, and Multi30k's parallel text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from workers.loading.load import load_tokenizer
from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError
from workers.reading.segments import DataSet
from workers.reading.training_data import MEASURED, TrainingData, examples, training_data
from workers.training.data.batches import micro_batches
from workers.training.data.overlap import refuse_overlap
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import KEPT_APART, tokenize_pairs
from workers.translation.prompts import PROMPTS

DATA = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data files: {DATA} does not exist")

ALMA_TRAIN = {"cs": 12076, "de": 14211, "is": 2009, "ru": 15000, "zh": 15406}


@pytest.fixture(scope="module")
def alma() -> TrainingData:
    files = [(str(DATA / "alma" / f"train.{code}-en.json.gz"), 1.0) for code in ALMA_TRAIN]
    return training_data(files, [pair for code in ALMA_TRAIN for pair in (f"{code}-en", f"en-{code}")])


def multi30k(split: str) -> DataSet:
    folder = DATA / "multi30k"
    return read_dataset(folder / f"{split}.en.gz", references=folder / f"{split}.de.gz")


def multi30k_train(*langs: str, skip_bad_rows: bool = False) -> TrainingData:
    return training_data([(str(DATA / "multi30k" / "train.en.gz"), 1.0)], langs, skip_bad_rows)


def test_almas_pairs_serve_both_directions(alma: TrainingData) -> None:
    counts: Counter[str] = Counter()
    found = Counter(example.langs for example in examples(alma, counts))
    assert found == {pair: count for code, count in ALMA_TRAIN.items() for pair in (f"{code}-en", f"en-{code}")}
    assert sum(found.values()) == 2 * 58_702 and not +counts


def test_multi30k_gives_its_four_languages(alma: TrainingData) -> None:
    found = Counter(example.langs for example in examples(multi30k_train("en-de", "fr-en", "cs-de"), Counter()))
    assert found == {"en-de": 29_000, "fr-en": 29_000, "cs-de": 29_000}


def test_a_line_that_almas_test_and_training_share_is_named(alma: TrainingData) -> None:
    splits = {"test": read_dataset(DATA / "alma" / "test.en-de.json.gz")}
    with pytest.raises(DataError, match=r"train\.cs-en\.json\.gz, line \d+: a target .* of the test data too.*Amazing"):
        refuse_overlap(alma, splits)


def test_a_caption_that_multi30ks_parts_share_is_named_or_left_out() -> None:
    splits = {"dev": multi30k("val"), "test": multi30k("test_2016_flickr")}
    with pytest.raises(DataError, match=r"A man in a black shirt is singing into a microphone\."):
        refuse_overlap(multi30k_train("en-de"), splits)
    without = refuse_overlap(multi30k_train("en-de", skip_bad_rows=True), splits)
    counts: Counter[str] = Counter()
    assert sum(1 for _ in examples(without, counts)) == 29_000 - counts[MEASURED] and 1 <= counts[MEASURED] < 10


def test_shipped_model_reads_icelandic_in_a_small_store(tmp_path: Path) -> None:
    data = training_data([(str(DATA / "alma" / "train.is-en.json.gz"), 1.0)], ["is-en", "en-is"])
    tokenizer = load_tokenizer(ROOT / "models" / "captions")
    pairs = tokenize_pairs(data, tokenizer, "captions", PROMPTS["alma"], tmp_path)
    assert len(pairs.held_out) == 128 and Counter(one.langs for one in pairs.held_out) == {"is-en": 64, "en-is": 64}
    assert len(pairs) + sum(pairs.left_out.values()) == 2 * 2009 and pairs.left_out[KEPT_APART] >= 128
    made = [one for step in range(4) for one in micro_batches(pairs, choose_rows(pairs, step, 64, 0), 8192)]
    assert sum(one.tokens for one in made) > 0.88 * sum(one.mask.numel() for one in made)

"""Divergence from the base model: its arithmetic by hand, texts in a trimmed vocabulary, and where it is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from search_spaces.candidate import Candidate
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.methods.quantizers import RTN
from tests.support.examples import dataset, segment
from tests.support.paths import ROOT
from tests.support.trained_tokenizers import TOKENIZERS, texts
from workers.calibration.divergence import Divergence
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Shown, batches
from workers.checkpoints.locate import resolve
from workers.compression.quantization import rtn
from workers.compression.vocabulary import trim_vocabulary
from workers.compression.vocabulary.choice import choose
from workers.compression.vocabulary.tokenizer_model import read_token_model
from workers.compression.vocabulary.tokenizer_trimming import trimmed_tokenizer
from workers.evaluation import candidate_divergence
from workers.evaluation.candidate_divergence import (
    Reference,
    Respelling,
    Text,
    bucketed_divergence,
    divergence_from,
    reference_key,
    references_of,
)
from workers.evaluation.evaluate import Evaluated, Evaluation, Stages, evaluate
from workers.loading import load
from workers.plan.compression_context import CompressionContext
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.training.losses.cached import Likeliest, likeliest
from workers.translation.decoding import Decoding
from workers.translation.prompts import PROMPTS

CAPTIONS = ROOT / "models" / "captions"
PAIRS = read_dataset(ROOT / "data" / "calibration.jsonl.gz").segments[::5]
LANGS = {"en-cs", "en-de", "en-fr"}
TRIM = TrimVocabulary(tokens=1500)


def context(store: Path | None, pairs: Sequence[Segment] = PAIRS) -> CompressionContext:
    return CompressionContext(pairs, PROMPTS["alma"], torch.device("cpu"), 0, store=store, parent_key="captions")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def base() -> Any:
    return load.load_model(CAPTIONS, "cpu")


@pytest.fixture(scope="module")
def references(store: Path) -> Mapping[str, Reference]:
    return references_of(CAPTIONS, context(store))


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trimmed")
    trim_vocabulary.compress(CAPTIONS, out, TRIM, context(None))
    return out


@pytest.fixture(scope="module")
def respelling(trimmed: Path) -> Respelling:
    return Respelling(load.load_tokenizer(CAPTIONS), load.load_tokenizer(trimmed))


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has asked for no references yet."""
    monkeypatch.setattr(candidate_divergence, "_held", {})


def rounded(bits: int, out: Path) -> Any:
    rtn.compress(CAPTIONS, out, RTN(bits=bits), context(None))
    return load.load_model(out, "cpu")


def test_a_model_does_not_diverge_from_itself(references: Mapping[str, Reference], base: Any) -> None:
    found = divergence_from(references, base, None)
    assert found.keys() == LANGS
    assert all(0.0 <= value < 1e-6 for value in found.values())


def test_fewer_bits_diverge_more_in_every_pair(
    references: Mapping[str, Reference], tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = {
        bits: divergence_from(references, rounded(bits, tmp_path_factory.mktemp(f"rtn{bits}")), None)
        for bits in (8, 4, 2)
    }
    for langs in LANGS:
        assert 1e-6 < found[8][langs] < found[4][langs] < found[2][langs]
    # 8 bits hardly matter, and 2 leave little of the model.
    assert max(found[8].values()) < 0.01
    assert min(found[2].values()) > 0.5


def test_it_is_most_of_the_divergence_over_the_vocabulary_and_never_more(
    references: Mapping[str, Reference], base: Any, tmp_path: Path
) -> None:
    model = rounded(3, tmp_path)
    found = divergence_from(references, model, None)
    for langs, reference in references.items():
        shown = batches([Shown(text.ids, text.starts[0]) for text in reference.texts], 2048)
        whole = Divergence(base, shown).of(model)
        assert 0.8 * whole < found[langs] < whole + 1e-6


def test_texts_are_the_pairs_that_statistics_leave_out_and_each_pair_has_as_many(
    references: Mapping[str, Reference],
) -> None:
    tokenizer = load.load_tokenizer(CAPTIONS)
    sources = {pair.source for pair in parts(PAIRS, 0)[1]}
    for reference in references.values():
        tokens = sum(len(text.ids) for text in reference.texts)
        assert abs(tokens - 2048 // 3) < 100
        for text in reference.texts:
            before = tokenizer.decode(text.ids[: text.starts[0]])
            assert any(source in before for source in sources)
            assert text.ids[-1] == tokenizer.eos_token_id
            assert text.starts == tuple(range(text.starts[0], len(text.ids)))
        assert len(reference.said.ids) == sum(len(text.starts) for text in reference.texts)
        assert reference.said.ids.shape[1] == 64


def test_of_some_texts_a_reference_gives_their_rows() -> None:
    texts = (Text((1, 2, 3), (1, 2)), Text((4, 5), (1,)), Text((6, 7, 8, 9), (2, 3)))
    ids = torch.arange(5)[:, None]
    reference = Reference(texts, Likeliest(ids, -ids.float(), None))
    assert reference.rows(0, 1).ids.flatten().tolist() == [0, 1]
    assert reference.rows(1, 3).ids.flatten().tolist() == [2, 3, 4]
    assert reference.rows(1, 3).tail is None


def logits_of(rows: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, other = (3.0 * torch.randn(rows, vocabulary, generator=generator) for _ in range(2))
    return one, other


def full_divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    log_p, log_q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def test_with_all_tokens_it_is_the_divergence_over_the_vocabulary() -> None:
    one, other = logits_of(40, 50)
    said = likeliest(one, 50)
    assert said.tail is None
    found = bucketed_divergence(said, said.ids, other)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, full_divergence(one, other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 8, 49])
def test_with_fewer_tokens_it_is_never_more_and_more_tokens_tell_more(k: int) -> None:
    one, other = logits_of(40, 50)
    said, more = likeliest(one, k), likeliest(one, k + 1)
    found = bucketed_divergence(said, said.ids, other)
    # What is said is kept in float32.
    assert (found >= -1e-5).all()
    assert (found <= bucketed_divergence(more, more.ids, other) + 1e-5).all()
    assert (found <= full_divergence(one, other) + 1e-5).all()


def test_a_token_that_the_vocabulary_lacks_is_any_other() -> None:
    # Five tokens, of which the base's three likeliest are known. The candidate has four: it lacks the second.
    said = Likeliest(torch.tensor([[0, 1, 2]]), torch.tensor([[0.5, 0.25, 0.125]]).log(), torch.tensor([0.125]).log())
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()
    expected = 0.5 * math.log(0.5 / 0.4) + 0.125 * math.log(0.125 / 0.1) + 0.375 * math.log(0.375 / 0.5)
    found = bucketed_divergence(said, torch.tensor([[0, -1, 1]]), logits)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)
    # The first of the candidate's tokens is counted as any other where the base's first is gone.
    expected = 0.25 * math.log(0.25 / 0.1) + 0.125 * math.log(0.125 / 0.3) + 0.625 * math.log(0.625 / 0.6)
    found = bucketed_divergence(said, torch.tensor([[-1, 1, 2]]), logits)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def test_where_all_tokens_are_gone_nothing_can_differ() -> None:
    said = Likeliest(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3]]).log(), torch.tensor([0.1]).log())
    found = bucketed_divergence(said, torch.tensor([[-1, -1]]), torch.tensor([[0.0, 5.0, -5.0]]))
    assert found.tolist() == pytest.approx([0.0], abs=1e-6)


def test_a_mass_of_nothing_adds_nothing() -> None:
    said = Likeliest(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]).log(), torch.tensor([-torch.inf]))
    found = bucketed_divergence(said, said.ids, torch.tensor([[0.0, 0.0, -torch.inf]]))
    assert found.tolist() == pytest.approx([0.0], abs=1e-6)


def test_ids_are_those_of_the_trimmed_vocabulary(trimmed: Path, respelling: Respelling) -> None:
    before, after = load.load_tokenizer(CAPTIONS), load.load_tokenizer(trimmed)
    old, new = before.get_vocab(), after.get_vocab()
    # Rows of the embeddings beyond the tokens name none.
    numbers = torch.arange(8000 + 4)
    found = respelling.ids(numbers.reshape(4, -1)).flatten().tolist()
    tokens = {number: token for token, number in old.items()}
    assert found == [new.get(tokens.get(number, ""), -1) for number in numbers.tolist()]
    assert found[-4:] == [-1, -1, -1, -1]
    assert sorted(number for number in found if number >= 0) == list(range(TRIM.tokens))


def test_texts_say_the_same_in_a_trimmed_vocabulary(
    references: Mapping[str, Reference], trimmed: Path, respelling: Respelling
) -> None:
    before, after = load.load_tokenizer(CAPTIONS), load.load_tokenizer(trimmed)
    longer = 0
    for text in (text for reference in references.values() for text in reference.texts):
        found = respelling.text(text)
        assert after.decode(found.ids) == before.decode(text.ids)
        assert len(found.starts) == len(text.starts)
        assert list(found.starts) == sorted(set(found.starts))
        longer += len(found.ids) > len(text.ids)
        # From where a token begins to where the next one does, its characters stand.
        for start, end, token in zip(found.starts, found.starts[1:], text.ids[text.starts[0] :], strict=False):
            written = after.convert_ids_to_tokens(list(found.ids[start:end]))
            assert "".join(written) == before.convert_ids_to_tokens(token) or written[0].startswith("<0x")
        assert found.starts[-1] == len(found.ids) - 1
    assert longer > 5


def test_a_text_of_kept_tokens_keeps_its_places(trimmed: Path, respelling: Respelling) -> None:
    kept = [number for number, new in enumerate(respelling.new_ids.tolist()) if new >= 0][100:106]
    found = respelling.text(Text(tuple(kept), (2, 3, 4, 5)))
    assert found == Text(tuple(int(respelling.new_ids[number]) for number in kept), (2, 3, 4, 5))


def test_a_trimmed_model_diverges_a_little_and_the_same_vocabulary_respelt_changes_nothing(
    references: Mapping[str, Reference], base: Any, trimmed: Path, respelling: Respelling
) -> None:
    found = divergence_from(references, load.load_model(trimmed, "cpu"), respelling)
    assert found.keys() == LANGS
    assert all(0.0 < value < 3.0 for value in found.values())
    same = load.load_tokenizer(CAPTIONS)
    whole = divergence_from(references, base, Respelling(same, same))
    assert whole == divergence_from(references, base, None)


def test_references_are_read_back_as_they_were_written_and_taken_once(
    tmp_path: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Mapping[str, Reference]] = []
    loaded: list[Path] = []
    write, load_model = candidate_divergence._write, load.load_model

    def watched(folder: Path, *rest: Any) -> Any:
        loaded.append(folder)
        return load_model(folder, *rest)

    def kept(folder: Path, given: Mapping[str, Reference]) -> None:
        written.append(given)
        write(folder, given)

    monkeypatch.setattr(load, "load_model", watched)
    monkeypatch.setattr(candidate_divergence, "_write", kept)
    first = references_of(CAPTIONS, context(tmp_path))
    assert references_of(CAPTIONS, context(tmp_path)) is first
    assert loaded == [CAPTIONS]
    assert (tmp_path / reference_key(context(tmp_path))).is_dir()
    # Another process finds them in the store.
    monkeypatch.setattr(candidate_divergence, "_held", {})
    again = references_of(CAPTIONS, context(tmp_path))
    assert again is not first and loaded == [CAPTIONS]
    for found in (first, again):
        assert found.keys() == written[0].keys() == LANGS
        for langs, one in written[0].items():
            assert found[langs].texts == one.texts
            for name in ("ids", "logs", "tail"):
                assert torch.equal(getattr(found[langs].said, name), getattr(one.said, name))


def test_references_of_other_pairs_or_another_model_lie_elsewhere(tmp_path: Path) -> None:
    one = context(tmp_path)
    others = [replace(one, parent_key="another"), replace(one, seed=1), context(tmp_path, PAIRS[:-1])]
    assert len({reference_key(each) for each in (one, *others)}) == 4


def test_a_candidate_whose_logits_are_not_finite_is_refused(references: Mapping[str, Reference]) -> None:
    model = load.load_model(CAPTIONS, "cpu")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        divergence_from(references, model, None)


def test_a_base_model_whose_logits_are_not_finite_is_refused_and_leaves_no_reference(
    tmp_path: Path, forgotten: None, save_llama: Any
) -> None:
    folder = save_llama(edit=lambda model: model.model.norm.weight.fill_(float("nan")))
    with pytest.raises(ValueError, match="not finite"):
        references_of(folder, context(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pairs", [(), tuple(segment(f"Source {number}.") for number in range(7))])
def test_without_pairs_to_measure_on_there_is_no_divergence(tmp_path: Path, pairs: Sequence[Segment]) -> None:
    assert references_of(CAPTIONS, context(tmp_path, pairs)) == {}
    assert references_of(CAPTIONS, context(None)) == {}
    assert divergence_from({}, None, None) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def plan(store: Path) -> EvaluationPlan:
    """Two segments of each pair, and calibration pairs to compare on."""
    whole = read_dataset(ROOT / "data" / "subset.jsonl")
    few = dataset([one for pair in whole.pairs for one in [two for two in whole.segments if two.langs == pair][:2]])
    return EvaluationPlan({"dev": few, "test": few}, dataset(PAIRS), ("chrf",), Decoding(12, 8), store, divergence=True)


def measured(plan: EvaluationPlan, *steps: Any, split: str = "dev") -> Evaluated:
    return evaluate(Candidate(resolve(str(CAPTIONS))[0], steps), split, plan, Stages())


def test_an_evaluation_measures_divergence_on_dev_alone(plan: EvaluationPlan) -> None:
    baseline, compressed = measured(plan).measurement, measured(plan, RTN(bits=4)).measurement
    assert baseline.divergence.keys() == compressed.divergence.keys() == LANGS
    assert all(value < 1e-6 for value in baseline.divergence.values())
    assert all(value > 1e-4 for value in compressed.divergence.values())
    assert set(compressed.seconds) == {"compress", "load", "divergence", "translate", "score"}
    assert compressed.seconds["divergence"] > 0.0
    held_out = measured(plan, RTN(bits=4), split="test").measurement
    assert (held_out.divergence, "divergence" in held_out.seconds) == ({}, False)
    # Both splits hold the same segments, and comparing changes no translation.
    assert compressed.scores == held_out.scores


def test_an_evaluation_compares_a_trimmed_vocabulary_too(
    plan: EvaluationPlan, references: Mapping[str, Reference], trimmed: Path, respelling: Respelling
) -> None:
    found = measured(plan, TRIM).measurement.divergence
    assert found == pytest.approx(divergence_from(references, load.load_model(trimmed, "cpu"), respelling), rel=1e-6)


def test_a_race_compares_once(plan: EvaluationPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = candidate_divergence.divergence_from
    monkeypatch.setattr(candidate_divergence, "divergence_from", lambda *rest: asked.append(rest) or real(*rest))
    raced = Evaluation(
        Candidate(resolve(str(CAPTIONS))[0], (RTN(bits=4),)), "dev", replace(plan, rungs=(3,)), Stages(), racing=True
    )
    while not raced.over:
        raced.advance()
    assert len(asked) == 1
    assert raced.evaluated().measurement.divergence.keys() == LANGS


def test_an_evaluation_without_calibration_pairs_measures_no_divergence(plan: EvaluationPlan) -> None:
    assert measured(replace(plan, calibration=None), RTN(bits=4)).measurement.divergence == {}


@pytest.mark.parametrize("family", sorted(TOKENIZERS))
def test_every_family_of_tokenizers_is_respelt(family: str) -> None:
    before = TOKENIZERS[family]()
    spec = json.loads(before.backend_tokenizer.to_str())
    model = read_token_model(spec)
    special = [token["content"] for token in spec["added_tokens"]]
    kept = choose(model, special, [], {}, 420)
    numbers = sorted(before.get_vocab()[token] for token in kept)
    cut = trimmed_tokenizer(spec, {old: new for new, old in enumerate(numbers)})
    after = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(cut)))
    respelling, longer = Respelling(before, after), 0
    for text in texts()[:60]:
        ids = tuple(before(text)["input_ids"])
        found = respelling.text(Text(ids, tuple(range(1, len(ids)))))
        assert after.decode(found.ids) == before.decode(ids)
        assert list(found.starts) == sorted(set(found.starts))
        assert found.starts[-1] < len(found.ids)
        longer += len(found.ids) > len(ids)
    assert longer > 10

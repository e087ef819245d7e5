"""Trimmed vocabularies: plain transformers loads them, kept tokens mean what they meant, and any text can be spelt."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError, ModelFilesError, StudyError
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Tensor
from tests.support.examples import llama_table, segment
from tests.support.trained_tokenizers import PAIRS, ROOT, TOKENIZERS, byte_level, texts
from workers.calibration.pair_parts import parts
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.compression.vocabulary.trim_vocabulary import compress
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.translation.decoding import Decoding
from workers.translation.prompts import PROMPTS
from workers.translation.translator import translate

CAPTIONS = ROOT / "models" / "captions"
SIZE = 420
STRANGE = ["😀 naïve 漢字 ω", "tab\tand\x00control", "ﷺ…\u200b", "▁ <0x41> Ġ"]


def context(pairs: Sequence[Segment] = PAIRS, text: Sequence[str] = ()) -> CompressionContext:
    return CompressionContext(pairs, PROMPTS["alma"], torch.device("cpu"), 0, calibration_text=text)


def save(save_llama: Any, tokenizer: Any, more_rows: int = 0, **config: Any) -> Path:
    """A random Llama with this tokenizer, and so many rows more than it has tokens."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    rows = len(tokenizer) + more_rows
    shape = {"num_hidden_layers": 1, "dtype": torch.float32, "initializer_range": 0.2}
    folder: Path = save_llama(**(shape | ids | {"vocab_size": rows} | config))
    for file in folder.glob("*token*.json"):
        file.unlink()
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def parent(request: pytest.FixtureRequest, save_llama: Any) -> Path:
    return save(save_llama, TOKENIZERS[request.param](), more_rows=5, tie_word_embeddings=request.param == "gemma")


@pytest.fixture(scope="module")
def trimmed(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("trimmed")
    return out, compress(parent, out, TrimVocabulary(tokens=SIZE), context())


@pytest.fixture(scope="module")
def padded(save_llama: Any) -> Path:
    return save(save_llama, byte_level(), more_rows=5)


def test_the_folder_has_exactly_so_many_tokens_and_rows(parent: Path, trimmed: tuple[Path, Report]) -> None:
    out, _ = trimmed
    old, new = load_tokenizer(parent), load_tokenizer(out)
    assert type(new) is type(old)
    assert len(new) == SIZE
    assert sorted(new.get_vocab().values()) == list(range(SIZE))
    assert read_config(out)["vocab_size"] == SIZE
    before, after = (load_file(folder / "model.safetensors") for folder in (parent, out))
    assert before.keys() == after.keys()
    rows = [old.get_vocab()[new.convert_ids_to_tokens(number)] for number in range(SIZE)]
    assert rows == sorted(rows)
    for name, tensor in before.items():
        whole = name not in ("model.embed_tokens.weight", "lm_head.weight")
        assert torch.equal(after[name], tensor if whole else tensor[rows])


def test_kept_text_gets_the_parents_logits(parent: Path, trimmed: tuple[Path, Report]) -> None:
    out, _ = trimmed
    old, new = load_tokenizer(parent), load_tokenizer(out)
    vocabulary = new.get_vocab()
    parts_of_texts = [" ".join(text.split()[:3]) for text in texts()]
    kept = [text for text in parts_of_texts if vocabulary.keys() >= set(old.tokenize(text))]
    assert 5 < len(kept) < len(parts_of_texts)
    rows = torch.tensor([old.get_vocab()[token] for token in new.convert_ids_to_tokens(range(SIZE))])
    first, second = load_model(parent, "cpu"), load_model(out, "cpu")
    for text in kept[:5]:
        assert new.tokenize(text) == old.tokenize(text)
        with torch.inference_mode():
            expected = first(**old(text, return_tensors="pt")).logits[..., rows]
            found = second(**new(text, return_tensors="pt")).logits
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_any_text_comes_back_as_from_the_parent(parent: Path, trimmed: tuple[Path, Report]) -> None:
    old, new = load_tokenizer(parent), load_tokenizer(trimmed[0])
    shorter = 0
    for text in [*texts()[:100], *STRANGE]:
        first, second = old(text)["input_ids"], new(text)["input_ids"]
        assert new.decode(second) == old.decode(first)
        assert new.unk_token_id is None or new.unk_token_id not in second
        shorter += len(first) < len(second)
    assert shorter > 0


def test_the_prompt_is_cut_as_before(parent: Path, trimmed: tuple[Path, Report]) -> None:
    old, new = load_tokenizer(parent), load_tokenizer(trimmed[0])
    for langs in ("en-de", "en-fr", "en-cs"):
        text = PROMPTS["alma"].render(segment("", langs=langs), old, ())
        assert new.convert_ids_to_tokens(new(text)["input_ids"]) == old.convert_ids_to_tokens(old(text)["input_ids"])


def test_roles_are_renumbered_in_configs_and_sequences(parent: Path, trimmed: tuple[Path, Report]) -> None:
    out, _ = trimmed
    old, new = load_tokenizer(parent), load_tokenizer(out)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((out / name).read_text())
        assert (config["bos_token_id"], config["eos_token_id"]) == (new.bos_token_id, new.eos_token_id)
    assert (new.bos_token, new.eos_token) == (old.bos_token, old.eos_token)
    assert (new("a")["input_ids"][0] == new.bos_token_id) == (old("a")["input_ids"][0] == old.bos_token_id)


def test_the_prediction_is_what_is_written(parent: Path, trimmed: tuple[Path, Report]) -> None:
    # Beside weights this small the share of the tokenizer is far above that of real models.
    predicted = predicted_bytes(read_checkpoint(parent), (TrimVocabulary(tokens=SIZE),))
    assert predicted == pytest.approx(bytes_on_disk(trimmed[0]), rel=0.03)


def test_the_report_says_how_many_went_and_what_changed(parent: Path, trimmed: tuple[Path, Report]) -> None:
    out, report = trimmed
    old, vocabulary = load_tokenizer(parent), load_tokenizer(out).get_vocab()
    gone = total = 0
    for pair in parts(PAIRS, 0)[1]:
        before = PROMPTS["alma"].render(pair, old, ())
        tokens = old.convert_ids_to_tokens(old(f"{before} {pair.references[0]}")["input_ids"])
        empty = PROMPTS["alma"].render(replace(pair, source=""), old, ())
        total += len(tokens) - len(old(empty)["input_ids"])
        gone += sum(token not in vocabulary for token in tokens)
    rows = len(old) + 5
    assert 0 < gone < total
    assert report.notes == (
        f"vocabulary cut from {rows} to {SIZE} tokens; {rows - SIZE} went, and {gone / total:.2%} of the tokens of "
        "calibration text left out of the count are spelt with others",
    )
    tables = 1 if read_config(parent)["tie_word_embeddings"] else 2
    assert report.targeted == report.changed == tables * (rows - SIZE) * 64


def test_the_most_used_tokens_stay(padded: Path, tmp_path: Path) -> None:
    compress(padded, tmp_path, TrimVocabulary(tokens=600), context())
    old, vocabulary = load_tokenizer(padded), load_tokenizer(tmp_path).get_vocab()
    counts: Counter[str] = Counter()
    for pair in parts(PAIRS, 0)[0]:
        counts.update(old.tokenize(f"{PROMPTS['alma'].render(pair, old, ())} {pair.references[0]}"))
    assert vocabulary.keys() >= {token for token, _ in counts.most_common(150)}
    gone = [counts[token] for token in old.get_vocab() if token not in vocabulary]
    assert max(gone) < counts.most_common(150)[-1][1]


def test_rows_with_a_role_stay_though_no_token_names_them(save_llama: Any, tmp_path: Path) -> None:
    tokenizer = byte_level()
    last = len(tokenizer) + 4
    folder = save(save_llama, tokenizer, more_rows=5, pad_token_id=last)
    compress(folder, tmp_path, TrimVocabulary(tokens=SIZE), context())
    assert read_config(tmp_path)["pad_token_id"] == SIZE - 1
    assert len(load_tokenizer(tmp_path)) == SIZE - 1
    before, after = (load_file(each / "model.safetensors") for each in (folder, tmp_path))
    name = "model.embed_tokens.weight"
    assert torch.equal(after[name][SIZE - 1], before[name][last])
    assert load_model(tmp_path, "cpu").config.vocab_size == SIZE


def test_added_tokens_without_a_row_stay_without_one(save_llama: Any, tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    folder = save(save_llama, tokenizer, more_rows=-1)
    compress(folder, tmp_path, TrimVocabulary(tokens=SIZE), context())
    assert load_tokenizer(tmp_path).convert_tokens_to_ids("<image>") == SIZE
    assert read_checkpoint(tmp_path).tensors["lm_head.weight"].shape == (SIZE, 64)


def test_the_heads_bias_is_trimmed(tmp_path: Path) -> None:
    from transformers import PhiConfig, PhiForCausalLM

    tokenizer = byte_level()
    model = PhiForCausalLM(
        PhiConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.lm_head.bias.data = torch.arange(len(tokenizer), dtype=torch.float32)
    folder, out = tmp_path / "phi", tmp_path / "out"
    out.mkdir()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    compress(folder, out, TrimVocabulary(tokens=SIZE), context())
    bias = load_model(out, "cpu").lm_head.bias.tolist()
    kept = load_tokenizer(out).convert_ids_to_tokens(range(SIZE))
    assert bias == [tokenizer.get_vocab()[token] for token in kept]


def test_source_files_go_and_the_rest_of_the_tokenizer_stays(padded: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "parent", tmp_path / "out"
    shutil.copytree(padded, folder)
    out.mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer.model"):
        (folder / name).write_text("x" * 3000)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<s>"}')
    compress(folder, out, TrimVocabulary(tokens=SIZE), context())
    assert {file.name for file in folder.iterdir()} - {file.name for file in out.iterdir()} == {
        "vocab.json", "merges.txt", "tokenizer.model",
    }  # fmt: skip
    assert load_tokenizer(out).chat_template == "{{ messages }}"
    predicted = predicted_bytes(read_checkpoint(folder), (TrimVocabulary(tokens=SIZE),))
    assert predicted == pytest.approx(bytes_on_disk(out), rel=0.03)


def test_running_text_is_counted_instead_of_pairs(padded: Path, tmp_path: Path) -> None:
    lines = ["zyzyva zyzyva quokka"] * 8
    pairs_only, with_text = tmp_path / "pairs", tmp_path / "text"
    for out, text in ((pairs_only, ()), (with_text, lines)):
        out.mkdir()
        compress(padded, out, TrimVocabulary(tokens=SIZE), context(text=text))
    used = set(load_tokenizer(padded).tokenize(lines[0]))
    assert load_tokenizer(with_text).get_vocab().keys() >= used
    assert not load_tokenizer(pairs_only).get_vocab().keys() >= used


def test_words_without_bytes_can_be_trimmed_while_no_held_out_text_needs_them(save_llama: Any, tmp_path: Path) -> None:
    folder = save_llama()
    plain = [segment(f"A dog runs {number}.", "Ein Hund rennt.") for number in range(10)]
    compress(folder, tmp_path, TrimVocabulary(tokens=60), context(plain))
    assert len(load_tokenizer(tmp_path)) == 60
    rare = [segment(f"dog {'~^|'[number % 3]}" + "x" * number, "Hund") for number in range(24)]
    with pytest.raises(ModelFilesError, match="keep more tokens"):
        compress(folder, tmp_path, TrimVocabulary(tokens=28), context(rare))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer_bytes": 0}, "needs a tokenizer.json"),
        ({"lm_head.weight": (400, 128)}, r"tables of \[400, 500\] rows"),
        ({"model.embed_tokens_per_layer.weight": (500, 8)}, "embed_tokens_per_layer"),
    ],
)
def test_models_whose_tables_can_not_be_trimmed_are_refused(change: dict[str, Any], said: str) -> None:
    table = replace(llama_table(), tokenizer_bytes=change.get("tokenizer_bytes", 900))
    shapes = {name: Tensor("BF16", shape) for name, shape in change.items() if name != "tokenizer_bytes"}
    with pytest.raises(CandidateError, match=said):
        predicted_bytes(replace(table, tensors={**table.tensors, **shapes}), (TrimVocabulary(tokens=100),))


@pytest.mark.parametrize(
    ("tokens", "pairs", "error", "said"),
    [
        (200, PAIRS, CandidateError, r"fewer than the \d+ that must stay.*keep at least \d+"),
        (704, PAIRS, CandidateError, "more than the 702 rows that name a token"),
        (707, PAIRS, CandidateError, "keeps no fewer than the model's 707"),
        (SIZE, (), StudyError, "--calibration"),
        (SIZE, PAIRS[:7], StudyError, "there are fewer than 8"),
    ],
)
def test_what_can_not_be_done_is_refused(
    padded: Path, tmp_path: Path, tokens: int, pairs: Sequence[Segment], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        compress(padded, tmp_path, TrimVocabulary(tokens=tokens), context(pairs))


def test_the_least_number_named_is_possible(padded: Path, tmp_path: Path) -> None:
    with pytest.raises(CandidateError) as raised:
        compress(padded, tmp_path, TrimVocabulary(tokens=200), context())
    least = int(str(raised.value).rsplit(" ", 1)[1])
    compress(padded, tmp_path, TrimVocabulary(tokens=least), context())
    assert len(load_tokenizer(tmp_path)) == least


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("captions")
    compress(
        CAPTIONS, out, TrimVocabulary(tokens=6000), context(read_dataset(ROOT / "data/calibration.jsonl.gz").segments)
    )
    return out


def test_the_caption_model_takes_the_bytes_predicted(captions: Path) -> None:
    predicted = predicted_bytes(read_checkpoint(CAPTIONS), (TrimVocabulary(tokens=6000),))
    assert predicted == pytest.approx(bytes_on_disk(captions), rel=0.005)


def test_the_caption_model_says_the_same_where_all_tokens_stay(captions: Path) -> None:
    asked = read_dataset(ROOT / "data" / "test.jsonl").segments[:90:9]
    decoding = Decoding(max_new_tokens=40)
    before, after = (
        translate(load_model(folder, "cpu"), load_tokenizer(folder), PROMPTS["alma"], asked, (), decoding, 512)
        for folder in (CAPTIONS, captions)
    )
    old, vocabulary = load_tokenizer(CAPTIONS), load_tokenizer(captions).get_vocab()
    same = [
        (one.text, other.text)
        for pair, one, other in zip(asked, before, after, strict=True)
        if vocabulary.keys() >= set(old.tokenize(f" {pair.source}\n")) | set(old.tokenize(f" {one.text}"))
    ]
    assert len(same) >= 3
    assert all(one == other for one, other in same)
    assert all(hypothesis.text for hypothesis in after)

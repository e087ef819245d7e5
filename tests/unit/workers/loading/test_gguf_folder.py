"""A GGUF file becomes a plain bfloat16 folder: weights, tables, tokenizer, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.errors import ModelFilesError
from tests.support.gguf_files import Type, write_gguf
from workers.checkpoints.base_model import open_base
from workers.checkpoints.gguf_header import gguf_revision, read_gguf, spell_grid, spell_types
from workers.checkpoints.model_files import read_checkpoint
from workers.failures.table import BaseChanged
from workers.loading.gguf_folder import LLAMA3, key_of, read_gguf_config, stored_folder, write_folder
from workers.loading.load import load_model, load_tokenizer
from workers.loading.opening import folder_of, open_model
from workers.loading.plain_folder import base_folder
from workers.runtime.artefact_store import ArtefactStore

TEXTS = ("English: A dog runs.\nGerman:", "  zwei  Räume, 12345 — Žluťoučký kůň\n\n…", "it's 3.14 £ 🙂")


def unheard(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(SHIPPED_MODEL, out)
    return out


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_folder(read_gguf(file), tmp_path_factory.mktemp("store"), unheard)


def test_weights_are_those_that_the_file_stands_for(folder: Path, tmp_path: Path) -> None:
    values = write_gguf(SHIPPED_MODEL, tmp_path / "same.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 4)
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == load_file(SHIPPED_MODEL / "model.safetensors").keys()
    for name, tensor in stored.items():
        expected = torch.from_numpy(np.array(values[names.get_name(name, try_suffixes=(".weight",))])).bfloat16()
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, expected), name


def test_it_says_what_the_shipped_model_says(folder: Path) -> None:
    """Q8_0 moves a weight by 0.4 % of its block's largest at most: the same next tokens, nearly the same logits."""
    ids = load_tokenizer(SHIPPED_MODEL)(TEXTS[0], return_tensors="pt").input_ids
    with torch.inference_mode():
        ours, theirs = (load_model(one)(ids).logits for one in (folder, SHIPPED_MODEL))
    assert (ours - theirs).abs().max() < 0.03 * theirs.abs().max()
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


def test_its_tokenizer_is_the_models_own(folder: Path) -> None:
    ours, theirs = load_tokenizer(folder), load_tokenizer(SHIPPED_MODEL)
    for text in TEXTS:
        ids = ours(text).input_ids
        assert ids == theirs(text).input_ids
        assert ours.decode(ids) == theirs.decode(ids)
    for name in ("bos_token", "eos_token", "pad_token", "model_max_length", "all_special_ids"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.decode(ours(TEXTS[0]).input_ids, skip_special_tokens=True) == TEXTS[0]


def test_the_folder_is_plain_and_asks_for_no_quantizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert config["tie_word_embeddings"] is True
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert open_base(str(folder)).conversion is None


def test_a_sketch_has_the_same_table_and_bytes_without_weights(file: Path, folder: Path, tmp_path: Path) -> None:
    write_folder(read_gguf(file), tmp_path, unheard, weights=False)
    sketch, whole = read_checkpoint(tmp_path), read_checkpoint(folder)
    assert sketch.tensors == whole.tensors
    assert sketch.config == whole.config
    assert abs(sketch.bytes - whole.bytes) < 1000
    assert (tmp_path / "model.safetensors").read_bytes()[-1000:] == bytes(1000)


def test_of_embeddings_that_are_there_twice_those_at_more_bits_are_kept(tmp_path: Path) -> None:
    values = write_gguf(SHIPPED_MODEL, tmp_path / "twice.gguf", lambda name: Type.Q4_0, head=Type.Q8_0)
    (made := tmp_path / "made").mkdir()
    about = write_folder(read_gguf(tmp_path / "twice.gguf"), made, unheard)
    stored = load_file(made / "model.safetensors")
    assert "lm_head.weight" not in stored
    kept = torch.from_numpy(values["output.weight"]).bfloat16()
    assert torch.equal(stored["model.embed_tokens.weight"], kept)
    assert "both are output.weight" in about["notes"][-1]
    assert "4-bit grid makes 4 bits look free" in about["notes"][1]
    assert json.loads((made / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_head_of_its_own_stays_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = torch.randn(8000, 256)
    values = write_gguf(SHIPPED_MODEL, tmp_path / "tied.gguf", head=Type.Q8_0)
    _with_head(tmp_path / "tied.gguf", tmp_path / "own.gguf", head.numpy())
    made = stored_folder(read_gguf(tmp_path / "own.gguf"), tmp_path / "store", unheard)
    stored = load_file(made / "model.safetensors")
    assert torch.equal(stored["model.embed_tokens.weight"], torch.from_numpy(values["token_embd.weight"]).bfloat16())
    quantized = gguf.dequantize(gguf.quantize(head.numpy(), Type.Q8_0), Type.Q8_0)
    assert torch.equal(stored["lm_head.weight"], torch.from_numpy(quantized).bfloat16())


def _with_head(file: Path, out: Path, head: np.ndarray) -> None:
    """The file with the bytes of another head in Q8_0."""
    header = read_gguf(file)
    place = header.tensor("output.weight")
    assert place is not None
    data = bytearray(file.read_bytes())
    data[place.offset : place.offset + place.bytes] = gguf.quantize(head, Type.Q8_0).tobytes()
    out.write_bytes(data)


def test_a_chat_template_and_the_end_of_a_turn_come_along(tmp_path: Path) -> None:
    said = {"tokenizer.chat_template": "{{ messages[0]['content'] }}!", "tokenizer.ggml.eot_token_id": 7}
    write_gguf(SHIPPED_MODEL, tmp_path / "chat.gguf", metadata=said)
    (made := tmp_path / "made").mkdir()
    write_folder(read_gguf(tmp_path / "chat.gguf"), made, unheard, weights=False)
    said_back = load_tokenizer(made).apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert said_back == "Hi!"
    assert json.loads((made / "generation_config.json").read_text())["eos_token_id"] == [2, 7]


def test_rotary_factors_of_llama_3_become_its_settings(tmp_path: Path) -> None:
    """The factors by transformers' own function for Llama 3, beside those that are stored."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 32.0, **LLAMA3}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, head_dim=64, rope_parameters=rope)
    plain = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    factors = plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].numpy()
    write_gguf(SHIPPED_MODEL, tmp_path / "long.gguf", more={"rope_freqs.weight": factors.astype(np.float32)})
    assert read_gguf_config(read_gguf(tmp_path / "long.gguf")).rope_parameters == rope
    write_gguf(SHIPPED_MODEL, tmp_path / "other.gguf", more={"rope_freqs.weight": (2 * factors).astype(np.float32)})
    with pytest.raises(ModelFilesError, match="not those of Llama 3"):
        read_gguf_config(read_gguf(tmp_path / "other.gguf"))


def test_a_model_is_known_by_the_file_and_made_once(file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    opened = open_model(str(file), None, False, store=tmp_path / "store", say=said.append)
    assert opened.base.name == str(file)
    assert opened.base.revision == gguf_revision(read_gguf(file))
    assert opened.folder == tmp_path / "store" / key_of(opened.base.revision)
    assert opened.checkpoint.bytes == read_checkpoint(opened.folder).bytes
    assert any("tensors to bfloat16" in line for line in said)
    assert opened.notes[0] == spell_types(read_gguf(file))
    before = (opened.folder / "model.safetensors").stat().st_mtime_ns
    said.clear()
    again = open_model(str(file), None, False, store=tmp_path / "store", say=said.append)
    assert (again.folder / "model.safetensors").stat().st_mtime_ns == before
    assert said == []
    assert base_folder(str(file), opened.base.revision, tmp_path / "store") == opened.folder


def test_a_worker_makes_the_folder_where_it_is_not_and_knows_another_file(file: Path, tmp_path: Path) -> None:
    revision = gguf_revision(read_gguf(file))
    made = base_folder(str(file), revision, tmp_path / "store")
    assert ArtefactStore(tmp_path / "store").find(key_of(revision)) is not None
    assert read_checkpoint(made).tensors
    other = tmp_path / "other.gguf"
    write_gguf(SHIPPED_MODEL, other, lambda name: Type.F16)
    with pytest.raises(BaseChanged, match="is not the one the study began with"):
        base_folder(str(other), revision, tmp_path / "second store")


def test_a_half_written_folder_is_not_taken_for_whole(file: Path, tmp_path: Path) -> None:
    header = read_gguf(file)
    half = tmp_path / key_of(gguf_revision(header))
    half.mkdir()
    (half / "config.json").write_text("{}")
    made = folder_of(header, tmp_path, unheard)
    assert made == half
    assert (made / "model.safetensors").is_file()


def test_types_are_told_with_their_bytes(file: Path) -> None:
    header = read_gguf(file)
    by_type = header.bytes_by_type()
    assert by_type["F16"] == 8000 * 256 * 2
    assert by_type["Q8_0"] == 34 * sum(np.prod(one.shape) for one in header.tensors if one.type == "Q8_0") // 32
    assert sum(by_type.values()) < header.bytes
    assert spell_types(header).startswith("a GGUF file of 7.6 MB: F16 4.1 MB, Q8_0 3.2 MB")
    assert spell_grid(header) is None


def test_files_that_are_no_model_are_refused_with_the_way_out(file: Path, tmp_path: Path) -> None:
    def refused(name: str, data: bytes | None, match: str) -> None:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelFilesError, match=match):
            open_model(str(tmp_path / name), None, False)

    whole = file.read_bytes()
    refused("absent.gguf", None, "is not there; check the path")
    refused("text.gguf", b"hello" * 10, "does not begin with GGUF")
    refused("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer")
    refused("head.gguf", whole[:5000], "cut short or damaged within its header")
    refused("tail.gguf", whole[:-1000], r"cut short: it has [\d,]+ bytes, and its tensors end at")
    refused("new.gguf", b"GGUF" + (9).to_bytes(4, "little") + whole[8:], "version 9")
    with pytest.raises(ModelFilesError, match="which has no revision 'main'"):
        open_model(str(file), "main", False)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.gguf").write_bytes(b"")
    with pytest.raises(ModelFilesError, match=r"name one of them, such as .*only/a\.gguf"):
        open_model(str(tmp_path / "only"), None, False)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"split.count": 2}, "one of 2 parts.*llama-gguf-split --merge"),
        ({"general.type": "adapter"}, "LoRA adapter as GGUF"),
        ({"general.type": "imatrix"}, "of the type 'imatrix'"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.rope.scaling.type": "yarn"}, "stretches its positions"),
    ],
)
def test_other_files_are_refused_by_their_metadata(said: dict[str, str | int], match: str, tmp_path: Path) -> None:
    # The writer says of itself that it writes a model.
    file = tmp_path / "other.gguf"
    write_gguf(SHIPPED_MODEL, file, metadata=said)
    with pytest.raises(ModelFilesError, match=match):
        write_folder(read_gguf(file), tmp_path / "out", unheard)


def test_an_architecture_that_transformers_can_t_read_is_named(file: Path, tmp_path: Path) -> None:
    header = read_gguf(file)
    other = replace(header, metadata={**header.metadata, "general.architecture": "rwkv7"})
    with pytest.raises(ModelFilesError, match=r"architecture 'rwkv7'.*it reads .*llama.*qwen2"):
        write_folder(other, tmp_path, unheard)


def test_a_file_with_tensors_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    norm = {"blk.0.attn_q_norm.weight": np.ones(64, np.float32)}
    write_gguf(SHIPPED_MODEL, tmp_path / "more.gguf", more=norm)
    with pytest.raises(
        ModelFilesError, match=r"1 tensors that .*LlamaForCausalLM has no place for, such as blk\.0\.att"
    ):
        write_folder(read_gguf(tmp_path / "more.gguf"), tmp_path / "out", unheard, weights=False)


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    write_gguf(SHIPPED_MODEL, tmp_path / "less.gguf", left_out=("blk.2.ffn_up.weight",))
    with pytest.raises(ModelFilesError, match=r"lacks 1 weights .*layers\.2\.mlp\.up_proj"):
        folder_of(read_gguf(tmp_path / "less.gguf"), tmp_path / "store", unheard)
    assert ArtefactStore(tmp_path / "store").find(key_of(gguf_revision(read_gguf(tmp_path / "less.gguf")))) is None

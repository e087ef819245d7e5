"""What people's model folders hold: each becomes a plain model of the predicted bytes, or is refused at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.study.base_model import refuse_changed_base
from search_spaces.candidate import BaseModel, Candidate
from search_spaces.errors import CandidateError, ModelFilesError, StudyError, UserError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.plain_model import DEFAULTS, ROPE_THETAS, TIED_BY_DEFAULT
from search_spaces.sizes.refusals import refuse_uncompressible
from tests.support.examples import dataset, segment
from tests.support.paths import ROOT
from tests.support.tiny_models import SETTINGS, SHAPE, tiny_model
from workers.checkpoints.architectures import causal_models
from workers.checkpoints.base_model import open_base, refuse_early
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.decoder.decode import Decoder
from workers.decoder.greedy import DecodeRequest
from workers.evaluation.candidate_folder import build_candidate, footprint
from workers.failures.table import BaseChanged, whose_fault
from workers.loading.load import load_model
from workers.loading.plain_folder import base_folder, plain_key, write_plain
from workers.plan.evaluation_plan import EvaluationPlan
from workers.translation.decoding import Decoding

IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61, 30]])
WITHIN = 0.005
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "num_channels": 3,
}  # fmt: skip
STEPS: dict[str, tuple[Step, ...]] = {
    "baseline": (),
    "rtn": (RTN(bits=4, group_size=-1),),
    "gptq": (GPTQ(bits=4, group_size=-1),),
    "bitsandbytes": (BitsAndBytes(format="nf4"),),
    "remove_layers": (RemoveLayers(count=1),),
}
Save = Callable[..., Path]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found = model(input_ids=IDS).logits
    assert isinstance(found, torch.Tensor)
    return found.float()


def change_config(folder: Path, **changes: Any) -> None:
    config = {key: value for key, value in {**read_config(folder), **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


@pytest.fixture(scope="module")
def save(character_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """(family, type, edit of the folder, **config) -> a folder as people publish it, with a tokenizer."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    def saved(
        family: str,
        dtype: torch.dtype = torch.bfloat16,
        edit: Callable[[Path], None] = lambda folder: None,
        **more: Any,
    ) -> Path:
        shape = {"vocab_size": len(character_tokenizer), "hidden_size": 128, "intermediate_size": 256}
        if family in ("gemma3", "qwen2_5_vl"):
            text = {**SHAPE, **shape, **more}
            own = {
                "gemma3": {
                    "text_config": text | SETTINGS["gemma3_text"], "vision_config": VISION, "mm_tokens_per_image": 4,
                },
                "qwen2_5_vl": {
                    "text_config": text | {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}},
                    "vision_config": {"depth": 2, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 128},
                },
            }  # fmt: skip
            torch.manual_seed(0)
            model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(family, **own[family]))
        else:
            model = tiny_model(family, **(shape | more))
        folder = tmp_path_factory.mktemp(family)
        model.to(dtype).save_pretrained(folder)
        character_tokenizer.save_pretrained(folder)
        edit(folder)
        return folder

    return saved


def repeat_head(folder: Path) -> None:
    def repeat(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    change_weights(folder, repeat)


def stray(folder: Path) -> None:
    """What lies beside the weights in published folders: other formats and variants, the index of shards that are no
    longer there, an adapter's files."""
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    (folder / "original").mkdir()
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "original/consolidated.safetensors"):
        shutil.copyfile(folder / "model.safetensors", folder / name)
    low = {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(3, 128)}
    save_file(low | {"base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": torch.ones(256, 3)},
              folder / "adapter_model.safetensors")  # fmt: skip
    adapter = {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "target_modules": ["up_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**adapter, "base_model_name_or_path": "nobody/nothing"}))


CODE = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODEL_CODE = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def own_code(folder: Path) -> None:
    (folder / "configuration_own.py").write_text(CODE)
    (folder / "modeling_own.py").write_text(MODEL_CODE)
    names = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    change_config(folder, model_type="own_llama", architectures=["OwnForCausalLM"], auto_map=names)


@pytest.fixture(scope="module")
def folders(save: Save) -> dict[str, Path]:
    return {
        "gemma 3 with pictures": save("gemma3"),
        "qwen 2.5 with pictures": save("qwen2_5_vl", head_dim=32),
        "tied head saved": save("qwen2", edit=repeat_head, tie_word_embeddings=True),
        "float32": save("llama", torch.float32),
        "float16": save("llama", torch.float16),
        "stray weights": save("llama", edit=stray),
        "own code": save("llama", edit=own_code),
    }


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EvaluationPlan:
    data = dataset([segment(f"Two dogs {number}.", f"Zwei Hunde {number}.", id=str(number)) for number in range(60)])
    store = tmp_path_factory.mktemp("store")
    return EvaluationPlan({"dev": data}, data, ("chrf",), Decoding(6, 8), store, trust_remote_code=True)


NAMES = (
    "gemma 3 with pictures", "qwen 2.5 with pictures", "tied head saved", "float32", "float16", "stray weights",
    "own code",
)  # fmt: skip
# Every method for the form that differs most; for the others a baseline, and one that copies what it does not change.
RUNS = [(NAMES[0], method) for method in STEPS] + [
    (name, method) for name in NAMES[1:] for method in ("baseline", "rtn")
]
RUNS += [("tied head saved", "bitsandbytes"), ("float32", "bitsandbytes"), ("own code", "gptq")]


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_it_decodes_at_the_bytes_that_were_predicted(
    folders: dict[str, Path], plan: EvaluationPlan, name: str, method: str
) -> None:
    steps = STEPS[method]
    opened = open_base(str(folders[name]), trust_remote_code=True)
    refuse_uncompressible(opened.checkpoint)
    made = build_candidate(Candidate(opened.base, steps), plan)
    written = footprint(Candidate(opened.base, steps), made.base, made.artefact)
    assert predicted_bytes(opened.checkpoint, steps) == pytest.approx(written.bytes, rel=WITHIN)
    assert written.bytes == bytes_on_disk(made.folder) and written.compressed_fraction == 1.0
    stored = read_checkpoint(made.folder).tensors
    assert not any("vision" in tensor or "visual" in tensor for tensor in stored)
    if method != "bitsandbytes":
        assert not {tensor.dtype for tensor in stored.values()} & {"F32", "F64"}
    assert ("lm_head.weight" in stored) == (name not in ("gemma 3 with pictures", "tied head saved"))
    model = load_model(made.folder, "cpu", trust_remote_code=True)
    assert logits(model).isfinite().all()
    asked = [DecodeRequest((1, 40, 7, 90), 6), DecodeRequest((1, 33, 5), 6)]
    decoder = Decoder(model, (), 2)
    said = decoder.decode(asked)
    assert (decoder.unknown is None) == (name != "own code")
    assert [len(tokens) for tokens in said] == [6, 6]


@pytest.mark.parametrize("name", ["gemma 3 with pictures", "qwen 2.5 with pictures", "tied head saved", "float16"])
def test_the_plain_model_says_what_the_published_one_does(
    folders: dict[str, Path], plan: EvaluationPlan, name: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if "pictures" in name else AutoModelForCausalLM
    published = auto.from_pretrained(folders[name], dtype=torch.float32).eval()
    base = open_base(str(folders[name])).base
    plain = base_folder(base.name, base.revision, plan.store)
    assert torch.equal(logits(load_model(plain, "cpu")), logits(published))
    assert (plain == folders[name]) == (name == "float16") == (not base.revision.endswith("+plain1"))


def test_a_published_model_is_made_plain_once_and_known_again_by_its_contents(
    folders: dict[str, Path], plan: EvaluationPlan, tmp_path: Path
) -> None:
    """As Gemma 3 is published: its text model's settings are sparse, and transformers fills them in."""
    folder = tmp_path / "published"
    shutil.copytree(folders["gemma 3 with pictures"], folder)
    config = read_config(folder)
    text = {key: value for key, value in config["text_config"].items() if key not in ("layer_types", "vocab_size")}
    change_config(folder, text_config=text | {"sliding_window_pattern": 2})
    opened = open_base(str(folder))
    made = base_folder(opened.base.name, opened.base.revision, tmp_path / "store")
    assert (
        made
        == base_folder("moved", opened.base.revision, tmp_path / "store")
        == tmp_path / "store" / plain_key(opened.base)
    )
    plain = read_config(made)
    assert plain["architectures"] == ["Gemma3ForCausalLM"] and plain["model_type"] == "gemma3_text"
    assert plain["layer_types"] == ["sliding_attention", "full_attention", "sliding_attention"]
    assert plain["vocab_size"] == read_checkpoint(made).tensors["model.embed_tokens.weight"].shape[0]
    assert "the text model of gemma3 is taken" in opened.notes[0] and len(opened.notes) == 1
    shutil.copytree(folder, tmp_path / "changed")
    change_config(tmp_path / "changed", mm_tokens_per_image=1)
    with pytest.raises(OSError, match="is not the one the study began with"):
        base_folder(str(tmp_path / "changed"), opened.base.revision, tmp_path / "other store")


@pytest.mark.parametrize("fault", ["gone", "weights gone", "config gone", "other weights"])
def test_a_base_model_that_changes_under_a_search_is_noticed_and_is_no_candidates_fault(
    folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(folders["float16"], folder)
    base = open_base(str(folder)).base
    assert base_folder(base.name, base.revision, tmp_path / "store") == folder
    (folder / "README.md").write_text("touched")
    assert base_folder(base.name, base.revision, tmp_path / "store") == folder
    if fault == "gone":
        folder.rename(tmp_path / "away")
    elif fault == "other weights":
        change_weights(folder, lambda tensors: tensors.update({name: -tensor for name, tensor in tensors.items()}))
    else:
        (folder / ("config.json" if fault == "config gone" else "model.safetensors")).unlink()
    with pytest.raises(BaseChanged, match="is not the one the study began with") as caught:
        base_folder(base.name, base.revision, tmp_path / "store")
    assert whose_fault(caught.value).what == "the base model changed"


def test_a_head_that_differs_from_the_embeddings_stays(save: Save, tmp_path: Path) -> None:
    """transformers does not tie what differs, whatever config.json says; nor may a loader of ours."""
    folder = save("qwen2", tie_word_embeddings=True)
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": -tensors["model.embed_tokens.weight"]}))
    opened = open_base(str(folder))
    assert "the two differ" in opened.notes[0]
    write_plain(opened, tmp_path)
    assert read_config(tmp_path)["tie_word_embeddings"] is False
    assert torch.equal(logits(load_model(tmp_path, "cpu")), logits(load_model(folder, "cpu")))


def test_heads_that_guess_further_tokens_are_left_out(save: Save, tmp_path: Path) -> None:
    folder = save("qwen3")
    bytes_before = open_base(str(folder)).checkpoint.bytes
    change_weights(folder, lambda tensors: tensors.update({"mtp.layers.0.mlp.up_proj.weight": torch.ones(256, 128)}))
    opened = open_base(str(folder))
    refuse_uncompressible(opened.checkpoint)
    assert opened.notes == ("tensors of heads that guess further tokens (1) are neither counted nor written",)
    assert opened.checkpoint.bytes == pytest.approx(bytes_before, abs=200)
    write_plain(opened, tmp_path)
    assert load_model(tmp_path, "cpu").config.model_type == "qwen3"


def test_what_is_said_of_a_folder(folders: dict[str, Path]) -> None:
    said = {name: open_base(str(folder), trust_remote_code=True).notes for name, folder in folders.items()}
    assert said["float16"] == said["own code"] == ()
    assert said["float32"] == ("weights in float32 are taken as bfloat16, which is what runs: in the baseline too",)
    assert "lm_head.weight repeats the token embeddings" in said["tied head saved"][0]
    assert said["stray weights"] == (
        "adapter_model.safetensors, consolidated.safetensors, model.fp16.safetensors and 1 more: left alone, neither "
        "counted nor written; transformers takes model.safetensors",
    )


def test_an_adapter_is_merged_onto_the_base_that_it_names(
    folders: dict[str, Path], plan: EvaluationPlan, tmp_path: Path
) -> None:
    """Against peft itself: rsLoRA whose scaling differs by module beside a head that was trained whole, and DoRA on a
    model that reads pictures too."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    scaled = {"alpha_pattern": {"up_proj": 3}, "use_rslora": True, "modules_to_save": ["lm_head"]}
    for name, auto, kind in (
        ("float32", AutoModelForCausalLM, scaled),
        ("gemma 3 with pictures", AutoModelForImageTextToText, {"use_dora": True}),
    ):
        model = auto.from_pretrained(folders[name], dtype=torch.float32)
        config = LoraConfig(
            r=4, lora_alpha=8, **kind, target_modules=r"(?!.*vision).*layers\.\d+\.(mlp\.up_proj|self_attn\.q_proj)",
            init_lora_weights=False,
        )  # fmt: skip
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for parameter in (one for part, one in adapted.named_parameters() if "modules_to_save" in part):
                parameter.mul_(-1.5)
        folder = tmp_path / name
        adapted.save_pretrained(folder)
        adapter = json.loads((folder / "adapter_config.json").read_text())
        assert Path(adapter["base_model_name_or_path"]) == folders[name]
        opened = open_base(str(folder))
        assert opened.notes[0] == f"the adapter is merged onto {folders[name]}, which it names"
        plain = base_folder(opened.base.name, opened.base.revision, plan.store)
        merged = PeftModel.from_pretrained(auto.from_pretrained(folders[name], dtype=torch.float32), folder)
        model = merged.merge_and_unload()
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        torch.testing.assert_close(logits(load_model(plain, "cpu")), logits(model), atol=1e-4, rtol=1e-4)
        assert bytes_on_disk(plain) == pytest.approx(opened.checkpoint.bytes, rel=WITHIN)
        assert (plain / "tokenizer.json").is_file()


def test_a_published_qwen_vl_is_flat(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its config.json has no text_config, and its names none either."""
    source = tmp_path / "published"
    shutil.copytree(folders["qwen 2.5 with pictures"], source)
    text = read_config(source)["text_config"]
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}, "rope_parameters": ..., "rms_norm_eps": ...}
    change_config(source, **{**text, **rope, "model_type": "qwen2_5_vl", "text_config": ...})
    opened = open_base(str(source))
    (tmp_path / "plain").mkdir()
    write_plain(opened, tmp_path / "plain")
    config = read_config(tmp_path / "plain")
    assert config["model_type"] == "qwen2" and not {"vision_config", "rope_scaling"} & set(config)
    nested = tmp_path / "nested"
    nested.mkdir()
    write_plain(open_base(str(folders["qwen 2.5 with pictures"])), nested)
    assert torch.equal(logits(load_model(tmp_path / "plain", "cpu")), logits(load_model(nested, "cpu")))


def test_an_adapter_that_can_not_be_merged_says_how(
    save: Save, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "base_model_name_or_path": str(folders["float16"])}

    monkeypatch.chdir(ROOT)

    def refused(change: dict[str, Any], what: str, weights: bool = True) -> None:
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").unlink(missing_ok=True)
        if weights:
            shutil.copyfile(
                folders["stray weights"] / "adapter_model.safetensors", folder / "adapter_model.safetensors"
            )
        else:
            (folder / "adapter_model.bin").write_bytes(b"pickle")
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelFilesError, match=what):
            open_base(str(folder))

    refused({"base_model_name_or_path": "/home/somebody/llama"}, "can't be loaded.* into base_model_name_or_path")
    refused({"base_model_name_or_path": "models/captions"}, "a relative path that workers can't find")
    refused({"base_model_name_or_path": ""}, "names no base_model_name_or_path")
    refused(
        {"base_model_name_or_path": str(save("llama", intermediate_size=320))}, "has an adapter for .*another model's"
    )
    refused({"peft_type": "IA3"}, "only LoRA and DoRA are merged here: merge it with peft")
    refused({"init_lora_weights": "pissa"}, "sets init_lora_weights: pissa")
    refused({}, "as a pickle, which is never loaded; load it with peft on", weights=False)


# config.json's changes, and what they are refused with.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "experts": ({"num_local_experts": 8}, "mixture of experts .*num_local_experts: 8.*Name a dense model"),
    "gptq": ({"quantization_config": {"quant_method": "gptq"}}, "has a quantization_config: it is quantized already"),
    "mlx": ({"quantization": {"bits": 4}}, "has a quantization: it is quantized already"),
    "pictures": ({"model_type": "mllama", "vision_config": {"a": 1}}, "reads more than text .mllama"),
    "other pictures": ({"model_type": "gemma3n", "vision_config": {"a": 1}}, "reads more than text .*save_pretrained"),
    "encoder": ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "encoder-decoders such as NLLB"),
    "scores": ({"architectures": ["LlamaForSequenceClassification"]}, "is not a causal language model"),
    "own code": ({"model_type": "new", "auto_map": {"AutoConfig": "a.B"}}, "let it run with --trust-remote-code"),
    "depth": ({"num_hidden_layers": 40}, "says num_hidden_layers: 40, and the weights are of 3 layers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_taken_is_refused_from_headers_alone(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    changes, said = REFUSED[name]
    shutil.copytree(folders["float16"], tmp_path / "model")
    change_config(tmp_path / "model", **changes)
    with pytest.raises(UserError, match=said):
        refuse_early(str(tmp_path / "model"), None, False, refuse_uncompressible)


def test_a_mixture_is_told_by_its_tensors_and_measured_as_it_is(save: Save) -> None:
    folder = save("qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    with pytest.raises(CandidateError, match=r"mixture of experts .*experts: 4"):
        open_base(str(folder))
    opened = open_base(str(folder), compressed=False)
    assert opened.conversion is None
    hidden = replace(opened.checkpoint, config={})
    with pytest.raises(CandidateError, match=r"mixture of experts .it has .*experts"):
        predicted_bytes(hidden, STEPS["rtn"])


def test_files_that_are_no_folder(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelFilesError, match=r"GGUF file.*make a folder of it first"):
        open_base(str(tmp_path / "model.Q4_K_M.gguf"))
    with pytest.raises(ModelFilesError, match="is a file; a model is the folder"):
        open_base(str(folders["float16"] / "model.safetensors"))
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ModelFilesError, match="name one of them, such as"):
        open_base(str(tmp_path))
    shutil.copytree(folders["float16"], tmp_path / "renamed")
    (tmp_path / "renamed" / "model.safetensors").rename(tmp_path / "renamed" / "weights.safetensors")
    with pytest.raises(ModelFilesError, match=r"but weights.safetensors. Rename"):
        open_base(str(tmp_path / "renamed"))


def test_a_tensor_that_nothing_loads_is_fatal_but_for_rotary_leftovers(save: Save) -> None:
    def leftover(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    folder = save("llama", edit=lambda folder: change_weights(folder, leftover))
    load_model(folder, "cpu")
    change_weights(folder, lambda tensors: tensors.update({"model.layers.0.mlp.router.weight": torch.ones(4, 128)}))
    with pytest.raises(
        ModelFilesError, match=r"holds more than its architecture has: model.layers.0.mlp.router.weight"
    ):
        load_model(folder, "cpu")


def test_the_defaults_are_those_of_transformers() -> None:
    from transformers import AutoConfig

    for kind, defaults in DEFAULTS.items():
        config = AutoConfig.for_model(kind).get_text_config()
        assert ROPE_THETAS.get(kind, 0) in (0, (config.rope_parameters or {}).get("rope_theta"))
        assert {key: getattr(config, key) for key in defaults} == defaults
    assert all(AutoConfig.for_model(kind).tie_word_embeddings for kind in TIED_BY_DEFAULT)
    assert causal_models()["gemma3_text"] == "Gemma3ForCausalLM" and "t5" not in causal_models()


class Hub:
    """A hub whose repositories are folders, in place of `snapshot_download`; counts what is fetched."""

    def __init__(self, repositories: dict[str, Path], cache: Path) -> None:
        self._repositories, self._cache = repositories, cache
        self.fetched: list[str] = []

    def download(self, name: str, revision: str | None = None, allow_patterns: Sequence[str] = ()) -> str:
        source, folder = self._repositories[name], self._cache / name / "snapshots" / "c0ffee"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (file for file in source.rglob("*") if file.is_file()):
            path = file.relative_to(source).as_posix()
            if any(fnmatch(path, pattern) for pattern in allow_patterns) and not (folder / path).exists():
                (folder / path).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, folder / path)
                self.fetched.append(path)
        return str(folder)


def test_of_a_hub_model_what_transformers_takes_is_fetched_after_its_config_was_looked_at(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(folders["stray weights"], shards)
    (shards / "model.safetensors.index.json").unlink()
    (shards / "model.safetensors").rename(shards / "model-00001-of-00001.safetensors")
    weights = read_checkpoint(folders["stray weights"]).tensors
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    mixture = tmp_path / "mixture"
    shutil.copytree(folders["float16"], mixture)
    change_config(mixture, num_experts=8)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(folders["stray weights"] / name, adapter / name)
    repositories = {"a/stray": folders["stray weights"], "a/shards": shards, "a/mixture": mixture, "a/lora": adapter}
    hub = Hub(repositories | {"nobody/nothing": folders["own code"]}, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)

    assert open_base("a/stray").base.revision == "c0ffee"
    assert open_base("a/shards").base.revision == "c0ffee"
    expected = ["model-00001-of-00001.safetensors", "model.safetensors"]
    assert sorted(name for name in hub.fetched if name.endswith(".safetensors")) == expected

    hub.fetched.clear()
    with pytest.raises(CandidateError, match="mixture of experts"):
        open_base("a/mixture")
    with pytest.raises(ModelFilesError, match=r"nobody/nothing.*trust-remote-code"):
        open_base("a/lora")
    assert [name for name in hub.fetched if name.endswith(".safetensors")] == ["adapter_model.safetensors"]
    hub.fetched.clear()
    opened = open_base("a/lora", trust_remote_code=True)
    assert opened.base.revision == "c0ffee+onto:c0ffee+plain1"
    assert {"model.safetensors"} <= set(hub.fetched)
    made = base_folder("a/lora", opened.base.revision, tmp_path / "store", trust_remote_code=True)
    assert bytes_on_disk(made) == pytest.approx(opened.checkpoint.bytes, rel=WITHIN)
    assert (made / "modeling_own.py").is_file()


def test_a_study_does_not_go_on_with_a_model_that_is_taken_otherwise() -> None:
    began = {"name": "a/m", "revision": "1", "bytes": 1000}
    refuse_changed_base(began, BaseModel("a/m", "1"), 1001)
    for now, size, said in (
        (BaseModel("a/m", "1+plain1"), 500, "everything in its files when the study began, 1.00 kB; now .* 500 B"),
        (BaseModel("a/m", "1"), 500, "everything in its files"),
        (BaseModel("a/m", "2"), 1000, r"has changed since the study began \(1, now 2\)"),
    ):
        with pytest.raises(StudyError, match=said):
            refuse_changed_base(began, now, size)

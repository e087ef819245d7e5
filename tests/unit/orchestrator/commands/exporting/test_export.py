"""An export translates as this project does and without it, in every stored form that the shipped model can take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from orchestrator.cli import exit_code_of
from orchestrator.commands.exporting import export as exporting
from orchestrator.commands.exporting.export import export
from orchestrator.commands.exporting.model_card import base_license
from orchestrator.finish.kept_models import split_named
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Magnitude, RemoveChannels, RemoveLayers, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, HQQ, RTN, W8A8, BitsAndBytes, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.support.examples import segment
from tests.support.paths import CAPTIONS, DATA
from tests.support.recorded_run import Made, write_data, write_run
from workers.checkpoints.adapters import AdapterSettings, LowRank, write_adapter
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.evaluation.methods import compress
from workers.export.files import SCRIPTS
from workers.export.stored_weights import load_stored
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.reading.dataset import read_dataset
from workers.translation.chat_template import TEMPLATE_FILE
from workers.translation.decoding import Decoding
from workers.translation.line_translator import LineTranslator
from workers.translation.prompt_file import Asking, read_asking, write_asking
from workers.translation.prompts import PROMPTS

EMBEDDINGS = QuantizeEmbeddings(bits=4)
# Those with an adapter have one beside them that no step has trained: see `adapted`.
FORMS: dict[str, tuple[Step, ...]] = {
    "layers removed": (RemoveLayers(count=1),),
    "vocabulary trimmed": (TrimVocabulary(tokens=6016),),
    "packed": (GPTQ(bits=4),),
    "packed, zero points": (HQQ(bits=3),),
    "packed embeddings": (TrimVocabulary(tokens=6016), RTN(bits=3, symmetric=False), QuantizeEmbeddings(bits=8)),
    "mixed widths": (MixedWidths(bits=4.5, score="error", embeddings=True),),
    "sparse": (Magnitude(sparsity=0.25),),
    "sparse and packed": (Magnitude(sparsity=0.25), RTN(bits=8), EMBEDDINGS),
    "inputs quantized": (W8A8(),),
    "inputs quantized, embeddings": (W8A8(), EMBEDDINGS),
    "bitsandbytes": (BitsAndBytes(format="nf4"),),
    "bitsandbytes, embeddings": (BitsAndBytes(format="int8"), EMBEDDINGS),
    "adapter": (),
    "adapter on packed": (RTN(bits=4),),
    "adapter on packed embeddings": (RTN(bits=4), EMBEDDINGS),
    "asked by chat": (),
    "asked by examples": (),
    "two beams": (),
}
SHOWN = tuple(
    segment(source, target, langs="en-de")
    for source, target in (("A cat sleeps.", "Eine Katze schläft."), ("Two boys run.", "Zwei Jungen rennen."))
)
# How the models are asked that have a `prompt.json` of their own.
ASKED = {
    "asked by chat": Asking(Decoding(16, 8, "chat"), ("en-cs", "en-de")),
    "asked by examples": Asking(Decoding(24, 8, "few-shot"), ("en-cs", "en-de"), examples=SHOWN),
    "two beams": Asking(Decoding(64, 8, beams=2), ("en-cs", "en-de")),
}
CHAT = "{% for one in messages %}<|{{ one.role }}|>{{ one.content }}</s>{% endfor %}<|assistant|>"
# Neither this project nor what requirements.txt leaves out can be imported.
BLOCKER = """
import sys
OURS = ["mtpareto", "orchestrator", "mlflow_tracking", "workers", "search_spaces"]
class Blocker:
    hidden = list(OURS)
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.hidden:
            raise ImportError(f"{name} is hidden")
sys.meta_path.insert(0, Blocker())
"""
ALONE = """
import json, os, runpy, sys
from sitecustomize import OURS, Blocker
for folder, hidden in json.load(open("exports.json")):
    Blocker.hidden[:] = [*OURS, *hidden]
    sys.path[0] = folder
    files = ["--input", "in", "--output", folder + ".out"]
    sys.argv = ["translate.py", "--lang-pair", "eng-deu", "--batch-size", "8", *files]
    try:
        runpy.run_path(folder + "/translate.py", run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, folder
assert not set(OURS) & {name.split(".")[0] for name in sys.modules}
"""


@dataclass(frozen=True, slots=True)
class Kept(Made):
    """A trial of these steps."""

    made_by: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.made_by


@dataclass(frozen=True, slots=True)
class Exported:
    """A run, the exports of its models by their stored form, and lines to translate, which are in `scratch/in`."""

    run: Path
    folders: dict[str, Path]
    scratch: Path
    lines: list[str]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> CompressionContext:
    shown = read_dataset(str(DATA / "calibration.jsonl.gz")).segments[:96]
    return CompressionContext(
        shown,
        PROMPTS["alma"],
        torch.device("cpu"),
        0,
        store=tmp_path_factory.mktemp("store"),
        parent_key="captions",
        calibration_tokens=1024,
    )


@pytest.fixture(scope="module")
def exported(context: CompressionContext, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A run that kept a model of every form, and the exports of all."""
    scratch = tmp_path_factory.mktemp("exported")
    folders = {form: made(scratch / f"made-{number}", context, form) for number, form in enumerate(FORMS)}
    trials = [Made(bytes_on_disk(CAPTIONS), 0.0, None)]
    for number, (form, folder) in enumerate(folders.items(), start=1):
        told_apart = (RemoveChannels(share=0.04 * number),) if "adapter" in form or form in ASKED else ()
        steps = told_apart + FORMS[form]
        trials.append(Kept(bytes_on_disk(folder), 0.01 * number, made_by=steps))
    data = {"dev": write_data(scratch / "dev.jsonl")}
    run = write_run(scratch / "run", data, trials, model=str(CAPTIONS), max_new_tokens=64, batch_size=8)
    for number, folder in enumerate(folders.values(), start=1):
        shutil.copytree(folder, run / "artefacts" / f"trial-{number}-made")
    exports = {
        form: export(run, str(number), scratch / f"export-{number}", [], lambda line: None)
        for number, form in enumerate(FORMS, start=1)
    }
    segments = [one for one in read_dataset(str(DATA / "subset.jsonl")).segments if one.langs == "en-de"]
    lines = [one.source for one in segments[:8]]
    lines[3:3] = ["", "  "]
    (scratch / "in").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Exported(run, exports, scratch, lines)


def made(out: Path, context: CompressionContext, form: str) -> Path:
    parent = CAPTIONS
    out.mkdir()
    for number, step in enumerate(FORMS[form]):
        folder = out / str(number)
        folder.mkdir()
        compress(parent, folder, step, context)
        parent = folder
    if form in ASKED:
        shutil.copytree(parent, out / "asked")
        write_asking(out / "asked", ASKED[form])
        if form == "asked by chat":
            (out / "asked" / TEMPLATE_FILE).write_text(CHAT)
        return out / "asked"
    return adapted(parent, out / "adapted") if form.startswith("adapter") else parent


def adapted(parent: Path, out: Path) -> Path:
    """The folder with an adapter beside it that moves the weights of one kind by a little."""
    shutil.copytree(parent, out)
    draw = torch.Generator().manual_seed(0)
    weights = {
        name.removesuffix(".weight"): LowRank(
            torch.randn(4, tensor.shape[1], generator=draw) / 16,
            torch.randn(tensor.shape[0], 4, generator=draw) / 16,
            0.25,
        )
        for name, tensor in read_checkpoint(CAPTIONS).tensors.items()
        if name.endswith("mlp.up_proj.weight")
    }
    write_adapter(out, weights, AdapterSettings(4, 1.0, 0.0, False, ("up_proj",)))
    return out


def hidden_from(folder: Path) -> list[str]:
    """Packages that a form may need and this export does not ask for."""
    asked = (folder / "requirements.txt").read_text()
    return [name for name in ("compressed_tensors", "bitsandbytes") if name.replace("_", "-") not in asked]


def environment(scratch: Path) -> dict[str, str]:
    """This environment without the project, with the interpreter that has torch."""
    (scratch / "hiding").mkdir(exist_ok=True)
    (scratch / "hiding" / "sitecustomize.py").write_text(BLOCKER)
    cleaned = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**cleaned, "PYTHONPATH": str(scratch / "hiding"), "PYTHON": sys.executable}


def test_every_form_translates_alike_without_this_project(exported: Exported) -> None:
    scratch = exported.scratch
    asked = [(str(folder), hidden_from(folder)) for folder in exported.folders.values()]
    (scratch / "exports.json").write_text(json.dumps(asked))
    alone = subprocess.run(
        [sys.executable, "-B", "-c", ALONE], cwd=scratch, env=environment(scratch), capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    different = {}
    for number, (form, folder) in enumerate(exported.folders.items(), start=1):
        kept = exported.run / "artefacts" / f"trial-{number}-made"
        asking = ASKED.get(form, Asking(Decoding(64, 8)))
        ours = LineTranslator(kept, asking, "en", "de", device_map="cpu")(exported.lines)
        theirs = Path(f"{folder}.out").read_text(encoding="utf-8").split("\n")
        assert theirs.pop() == ""
        assert (theirs[3], theirs[4]) == ("", "")
        unlike = sum(mine.text != other for mine, other in zip(ours, theirs, strict=True))
        if unlike:
            different[form] = unlike
    # Where inputs are put on 8-bit grids as they come, or multiplied in blocks, the last bit of an activation, which
    # depends on what stands in its batch, may become another step of the grid, and a near tie another token.
    near = {form: count for form, count in different.items() if "inputs" in form or "bitsandbytes" in form}
    assert different == near
    assert all(count <= len(exported.lines) // 4 for count in near.values()), near


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "embeddings" in form or "sparse" in form or "mixed" in form]
)
def test_what_the_exported_loader_loads_is_bit_for_bit_the_model(exported: Exported, form: str) -> None:
    folder = exported.folders[form]
    ids = torch.tensor([[1, 40, 7, 90, 33, 5, 61, 8]])
    with torch.inference_mode():
        found = load_stored(folder, torch.float32, torch.device("cpu"))(ids).logits
        assert torch.equal(found, load_model(folder, "cpu")(ids).logits)


def test_run_sh_keeps_its_contract(exported: Exported) -> None:
    folder = exported.folders["packed embeddings"]
    run = [str(folder / "run.sh"), "--lang-pair", "eng-deu", "--batch-size", "8"]
    elsewhere = exported.scratch / "hiding"
    alone = environment(exported.scratch)
    source, out = exported.scratch / "short", exported.scratch / "short.out"
    # The third is too long for the model's context, and cut into its sentences.
    lines = ["A dog runs in the park.", "", "Two men play football. A woman reads a book. " * 40, "A dog\u2028runs."]
    source.write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run(
        [*run, "--input", str(source), "--output", str(out)], cwd=elsewhere, env=alone, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    ours = LineTranslator(folder, Asking(Decoding(64, 8)), "en", "de", device_map="cpu")(lines)
    assert out.read_text(encoding="utf-8") == "".join(f"{line.text}\n" for line in ours)
    assert [line.pieces for line in ours] == [1, 0, 80, 1]
    assert "4 lines translated" in done.stderr
    assert "warning: too long for the model's context, and translated in pieces: line 3\n" in done.stderr
    refused = subprocess.run(
        [*run[:2], "ces-deu"], cwd=elsewhere, env=alone, input="x\n", capture_output=True, text=True
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "this model was exported for en-cs, en-de, and not for ces-deu" in refused.stderr
    nowhere = subprocess.run(
        run, cwd=elsewhere, env={**alone, "PYTHON": "/nowhere/python"}, capture_output=True, text=True
    )
    assert nowhere.returncode == 2
    assert "run " in nowhere.stderr and "setup.sh first" in nowhere.stderr


def test_run_sh_writes_a_line_before_the_next_is_there_and_names_those_that_are_cut(exported: Exported) -> None:
    run = [str(exported.folders["packed embeddings"] / "run.sh"), "--lang-pair", "en-de", "--max-new-tokens", "3"]
    running = subprocess.Popen(
        run, cwd=exported.scratch, env=environment(exported.scratch), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdin is not None and running.stdout is not None
    written = []
    for line in ("\n", "A dog runs in the park.\n"):
        running.stdin.write(line)
        running.stdin.flush()
        written.append(running.stdout.readline())
    _, said = running.communicate()
    assert running.returncode == 0 and written[0] == "\n" and written[1].startswith("Ein")
    assert "warning: cut at the length limit: line 2; raise --max-new-tokens\n" in said


def test_the_files_are_whole_and_their_sums_hold(exported: Exported) -> None:
    for number, folder in enumerate(exported.folders.values(), start=1):
        checked = subprocess.run(
            ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout
        named = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert named == there - {"SHA256SUMS"}
        assert {script.name for script in SCRIPTS} | {"README.md", "prompt.json", "requirements.txt"} < named
        assert bytes_on_disk(folder) == bytes_on_disk(exported.run / "artefacts" / f"trial-{number}-made")
    assert not list(exported.scratch.glob(".draft-*"))


def test_setup_sh_refuses_a_damaged_file_before_it_installs_anything(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported.folders["packed"], folder)
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    setup = subprocess.run([str(folder / "setup.sh")], cwd=tmp_path, capture_output=True, text=True)
    assert setup.returncode != 0
    assert "model.safetensors: FAILED" in setup.stdout
    assert not (folder / ".venv").exists()


def test_requirements_name_what_running_needs_and_no_more(exported: Exported) -> None:
    def packages(form: str) -> set[str]:
        lines = (exported.folders[form] / "requirements.txt").read_text().splitlines()
        assert all("==" in line and "+" not in line for line in lines)
        return {line.split("==")[0] for line in lines}

    plain = {"torch", "transformers", "accelerate", "safetensors", "tokenizers"}
    assert packages("layers removed") == packages("packed embeddings") == packages("sparse and packed") == plain
    assert packages("packed") == packages("inputs quantized, embeddings") == plain | {"compressed-tensors"}
    assert packages("bitsandbytes") == plain | {"bitsandbytes"}


def test_the_model_card_says_what_it_is_and_how_good(exported: Exported) -> None:
    card = (exported.folders["vocabulary trimmed"] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\npipeline_tag: translation\n")
    for said in (
        "\nbase_model: example/model\n",
        "# model, compressed",
        "1. `trim_vocabulary(tokens=6016)`",
        "English to German (en-de)",
        "bytes) of files needed to run",
        "Selected on: dev.jsonl, sha256 ",
        "| chrF | ",
        "95 % interval",
        "./run.sh --lang-pair en-cs --batch-size 8 --input IN --output OUT",
        f"torch=={torch.__version__.partition('+')[0]}",
    ):
        assert said in card, said
    assert str(CAPTIONS.parent) not in card


def test_a_folder_that_is_there_is_refused_before_anything_is_written(exported: Exported, tmp_path: Path) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine").touch()
    file.touch()
    for to, said in ((full, "is not empty"), (file, "is no folder")):
        with pytest.raises(StudyError, match=said):
            export(exported.run, "2", to, [], print)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine"]
    empty = tmp_path / "empty"
    empty.mkdir()
    export(exported.run, "2", empty, ["deu-eng"], print)
    assert "de-en" in json.loads((empty / "prompt.json").read_text())["requests"]
    assert "German to English (de-en, not measured)" in (empty / "README.md").read_text()


def test_an_export_that_fails_on_the_way_leaves_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "model_card", full)
    with pytest.raises(OSError, match="No space"):
        export(exported.run, "2", tmp_path / "deep" / "out", [], print)
    assert not list((tmp_path / "deep").iterdir())


def test_what_can_not_be_exported_says_why(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(pick: str, *langs: str) -> str:
        assert exit_code_of(lambda: int(bool(export(exported.run, pick, tmp_path / "out", langs, print)))) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "there is no pick 'smallish'" in refused("smallish")
    assert "a pair is two language codes" in refused("2", "German")
    assert "unknown language code 'qq'" in refused("2", "en-qq")
    number = 1 + list(FORMS).index("bitsandbytes")
    adapter = exported.run / "artefacts" / f"trial-{number}-made" / "adapter"
    shutil.copytree(exported.folders["adapter"] / "adapter", adapter)
    try:
        assert "keeps an adapter beside layers that run as they are stored (bitsandbytes)" in refused(str(number))
    finally:
        shutil.rmtree(adapter)


def test_the_licence_of_the_base_is_what_its_card_names(tmp_path: Path) -> None:
    assert base_license(tmp_path) is None
    (tmp_path / "README.md").write_text("# license: none here\n")
    assert base_license(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    assert base_license(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: For research only\n---\n# A model\n")
    assert base_license(tmp_path) == "For research only"


@pytest.mark.parametrize("form", ["gguf", "merged-bf16", "compressed-tensors"])
def test_other_forms_go_out_whole_and_say_what_they_are(exported: Exported, form: str, tmp_path: Path) -> None:
    number = 1 + list(FORMS).index("packed")
    said: list[str] = []
    folder = export(exported.run, str(number), tmp_path / "out", [], said.append, form)
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=folder, check=False)
    assert checked.returncode == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"## As {form}\n" in card
    kept = bytes_on_disk(exported.run / "artefacts" / f"trial-{number}-made")
    assert f"The model that was measured has {kept:,} bytes" in card
    assert ("not run with" in card) == (form != "merged-bf16")
    assert "en-de" in json.loads((folder / "prompt.json").read_text())["requests"]
    if form == "gguf":
        assert {file.name for file in folder.iterdir()} == {"README.md", "SHA256SUMS", "model.gguf", "prompt.json"}
        assert "llama-server -m model.gguf" in card and '"n_predict": 64' in card
        assert '"Translate this from English to Czech:\\nEnglish: SOURCE\\nCzech:"' in card
        assert any("scales of 64 columns are repeated" in line for line in said)
        return
    ours = LineTranslator(folder, Asking(Decoding(64, 8)), "en", "de", device_map="cpu")(exported.lines)
    packed = exported.run / "artefacts" / f"trial-{number}-made"
    theirs = LineTranslator(packed, Asking(Decoding(64, 8)), "en", "de", device_map="cpu")(exported.lines)
    # Rounding to bfloat16 may tip a near tie.
    unlike = sum(one.text != other.text for one, other in zip(ours, theirs, strict=True))
    assert unlike <= (1 if form == "merged-bf16" else 0)
    needs = (folder / "requirements.txt").read_text()
    assert ("compressed-tensors" in needs) == (form == "compressed-tensors")


def test_a_form_that_a_model_can_not_take_is_refused_and_leaves_nothing(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, form, why in (
        ("inputs quantized", "gguf", "the inputs of its layers are quantized too"),
        ("bitsandbytes", "gguf", "bitsandbytes' types are none of GGUF's"),
        ("adapter on packed", "gguf", "--format merged-bf16 takes it"),
        ("adapter on packed", "compressed-tensors", "--format merged-bf16 takes it"),
        ("sparse", "compressed-tensors", "no layer of it lies on a grid"),
    ):
        pick = str(1 + list(FORMS).index(name))

        def run(pick: str = pick, form: str = form) -> int:
            return int(bool(export(exported.run, pick, tmp_path / "out", [], print, form)))

        assert exit_code_of(run) == 2
        assert why in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_an_export_is_a_model_folder_for_translate_too(exported: Exported) -> None:
    folder = exported.folders["packed"]
    assert split_named(str(folder)) == (folder, None)
    asking = read_asking(folder)
    assert asking is not None
    assert (asking.pairs, asking.decoding.max_new_tokens) == (("en-cs", "en-de"), 64)

"""`mtpareto score` against sacreBLEU itself, and every way of asking it wrongly."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands.score import run_score
from orchestrator.commands.score_files import ScoreError, read_lines
from search_spaces.errors import StudyError, UserError
from tests.support.paths import ROOT
from workers.scoring.metrics import METRICS

TEXTS = {
    "de": (
        ["Ein Hund läuft im Park.", "Der alte Mann liest, und sie schläft.", "Zwei Kinder spielen Ball."],
        ["Ein Hund rennt durch den Park.", "Der alte Mann liest und sie schläft.", "Zwei Kinder spielen mit dem Ball."],
    ),
    "zh": (
        ["一只狗在公园里跑。", "老人在看书。", "两个孩子在玩球。"],
        ["一只狗正在公园里奔跑。", "老人正在看书。", "两个孩子在玩球。"],
    ),
    "ja": (
        ["犬が公園で走っています。", "老人は本を読む。", "子供がボールで遊ぶ。"],
        ["犬が公園を走っている。", "老人は本を読んでいる。", "子供二人がボールで遊ぶ。"],
    ),
    "cs": (
        ["Pes běží v parku.", "Starý muž čte, a ona spí.", "Dvě děti si hrají s „míčem“ za 1,5 eura."],
        ["Pes utíká parkem.", "Starý muž čte a ona spí.", "Dvě děti si hrají s „míčem“ za 1,50 eura."],
    ),
    "ru": (
        ["Собака бежит в парке.", "Старик читает, а она спит.", "Двое детей играют в мяч — до 18:30."],
        ["Собака бежит по парку.", "Старик читает, пока она спит.", "Два ребёнка играют в мяч — до 18:30."],
    ),
    "is": (
        ["Hundur hleypur í garði.", "Gamli maðurinn les og hún sefur.", "Tvö börn leika með bolta."],
        ["Hundur hleypur um garðinn.", "Gamli maðurinn les á meðan hún sefur.", "Tvö börn leika sér með bolta."],
    ),
}
TOKENIZERS = {"de": "13a", "cs": "13a", "ru": "13a", "is": "13a", "zh": "zh", "ja": "ja-mecab"}
CHARACTERS = ["--ter-normalized", "--ter-asian-support"]
SHARED_ESA = ROOT.parent / "shared" / "data" / "wmt24" / "wmt24_esa.jsonl.gz"


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def scored(
    hypotheses: list[Path],
    references: list[Path],
    target: str,
    sources: Path | None,
    metrics: tuple[str, ...] = ("bleu", "chrf", "chrf++", "ter"),
) -> list[str]:
    """What the command prints, a line an item."""
    lines: list[str] = []
    run_score(hypotheses, references, target, sources, metrics, lines.append)
    return lines


def figures(lines: list[str]) -> dict[str, tuple[str, str]]:
    """Metric -> (score as printed, signature), of the first system."""
    found = (re.fullmatch(r"  (BLEU|chrF|chrF\+\+|TER) +(\d+\.\d\d)  (\S+)", line) for line in lines)
    return {match[1]: (match[2], match[3]) for match in reversed(list(filter(None, found)))}


@pytest.fixture(name="german")
def german_files(tmp_path: Path) -> tuple[Path, Path]:
    hypotheses, references = TEXTS["de"]
    return write(tmp_path / "hyp.de", hypotheses), write(tmp_path / "ref.de", references)


def command_line(hypotheses: Path, references: Path, target: str) -> dict[str, tuple[str, str]]:
    """What sacreBLEU's own command line gives, asked as its documentation says for the language."""
    words = CHARACTERS if target in ("zh", "ja") else []
    given = [
        row
        for flags in (["-m", "bleu", "chrf", "ter", "-tok", TOKENIZERS[target], *words],
                      ["-m", "chrf", "--chrf-word-order", "2"])
        for row in sacrebleu_rows([str(references), "-i", str(hypotheses), *flags])
    ]  # fmt: skip
    names = {"BLEU": "BLEU", "chrF2": "chrF", "chrF2++": "chrF++", "TER": "TER"}
    return {names[row["name"]]: (f"{row['score']:.2f}", row["signature"]) for row in given}


def sacrebleu_rows(arguments: list[str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "sacrebleu", *arguments, "-w", "2", "-f", "json"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout
    found = json.loads(printed)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("target", list(TEXTS))
def test_scores_and_signatures_are_those_of_sacrebleu_s_command_line(target: str, tmp_path: Path) -> None:
    hypotheses, references = (write(tmp_path / name, TEXTS[target][k]) for k, name in enumerate(("hyp", "ref")))
    found = figures(scored([hypotheses], [references], target, None))
    assert list(found) == ["TER", "chrF++", "chrF", "BLEU"]
    assert found == command_line(hypotheses, references, target)


@pytest.mark.parametrize("target", ["de", "cs", "ru", "is", "zh", "ja", "ko"])
def test_the_tokenizer_is_the_one_sacrebleu_chooses_by_itself(target: str, tmp_path: Path) -> None:
    text = TEXTS.get(target, (["개가 풀밭을 달린다."], ["갈색 개가 풀밭을 달리고 있다."]))
    hypotheses, references = (write(tmp_path / name, text[k]) for k, name in enumerate(("hyp", "ref")))
    (row,) = sacrebleu_rows([str(references), "-i", str(hypotheses), "-m", "bleu", "-l", f"en-{target}"])
    found = figures(scored([hypotheses], [references], target, None, ("bleu",)))["BLEU"]
    assert found == (f"{row['score']:.2f}", row["signature"])


@pytest.mark.skipif(not SHARED_ESA.is_file(), reason="needs WMT24's judged translations in ../shared/data/wmt24")
@pytest.mark.parametrize(("pair", "system"), [("en-cs", "CUNI-MH"), ("en-ja", "GPT-4"), ("en-zh", "Unbabel-Tower70B")])
def test_real_systems_outputs_score_as_by_sacrebleu_s_command_line(pair: str, system: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in gzip.decompress(SHARED_ESA.read_bytes()).decode().splitlines()]
    human = {row["line_id"]: row["tgt"] for row in rows if row["langs"] == pair and row["system"] == "refA"}
    judged = {row["line_id"]: row["tgt"] for row in rows if row["langs"] == pair and row["system"] == system}
    # TER takes seconds for each long paragraph, and they prove nothing more.
    lines = [line for line in judged if line in human and len(judged[line]) < 60][:40]
    assert len(lines) == 40
    texts = ([" ".join(side[line].split()) for line in lines] for side in (judged, human))
    hypotheses, references = (write(tmp_path / name, text) for name, text in zip(("hyp", "ref"), texts, strict=True))
    target = pair.removeprefix("en-")
    assert figures(scored([hypotheses], [references], target, None)) == command_line(hypotheses, references, target)


def test_a_regional_target_gets_its_language_s_tokenizer(tmp_path: Path) -> None:
    hypotheses, references = (write(tmp_path / name, TEXTS["zh"][k]) for k, name in enumerate(("hyp", "ref")))
    assert "tok:zh" in figures(scored([hypotheses], [references], "zh-TW", None))["BLEU"][1]


def test_two_systems_are_tested_by_sacrebleu_s_paired_bootstrap(german: tuple[Path, Path], tmp_path: Path) -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import PairedTest

    hypotheses, references = german
    worse = write(tmp_path / "worse.de", ["Ein Hund.", "Der Mann schläft.", "Kinder spielen."])
    lines = [path.read_text("utf-8").splitlines() for path in (hypotheses, worse, references)]
    test = PairedTest([("a", lines[0]), ("b", lines[1])], {"bleu": BLEU()}, [lines[2]], test_type="bs", n_samples=1000)
    signatures, scores = test()
    first, second = scores["BLEU"]
    expected = f"BLEU {first.score:.2f} {second.score:.2f} {second.score - first.score:+.2f} {second.p_value:.4f}"

    printed = [" ".join(line.split()) for line in scored([hypotheses, worse], [references], "de", None, ("bleu",))]
    assert printed[-2:] == [expected, f"BLEU {signatures['BLEU'].format()}"]
    assert "bs:1000|seed:12345" in printed[-1]


def test_several_references_gzip_and_windows_line_ends(german: tuple[Path, Path], tmp_path: Path) -> None:
    from sacrebleu.metrics.chrf import CHRF

    hypotheses, references = german
    packed = tmp_path / "ref2.gz"
    packed.write_bytes(gzip.compress("\r\n".join(TEXTS["de"][0]).encode()))
    lines = scored([hypotheses], [references, packed], "de", None, ("chrf",))
    expected = CHRF().corpus_score(TEXTS["de"][0], [TEXTS["de"][1], TEXTS["de"][0]])
    score, signature = figures(lines)["chrF"]
    assert (score, signature[:8]) == (f"{expected.score:.2f}", "nrefs:2|")
    assert lines[0] == "target de, 3 segments, 2 references each"


def test_copied_and_empty_hypotheses_are_counted(german: tuple[Path, Path], tmp_path: Path) -> None:
    _, references = german
    sources = write(tmp_path / "src", ["A dog runs.", "An old man reads.", ""])
    hypotheses = write(tmp_path / "copy", ["A dog runs. ", "Ein Mann.", ""])
    lines = scored([hypotheses], [references], "de", sources, ("chrf",))
    assert [line.strip() for line in lines[-2:]] == [
        "copied   33.33 %  (1 of 3 hypotheses)",
        "empty    33.33 %  (1 of 3 hypotheses)",
    ]


def test_an_empty_reference_is_scored_and_told(german: tuple[Path, Path], tmp_path: Path) -> None:
    references = write(tmp_path / "ref", ["Ein Hund.", "", "Zwei Kinder."])
    lines = scored([german[0]], [references], "de", None, ("chrf",))
    assert any("1 empty line (the first is line 2)" in line for line in lines)


def test_unequal_line_counts_name_every_file(german: tuple[Path, Path], tmp_path: Path) -> None:
    short = write(tmp_path / "short", ["Ein Hund."])
    with pytest.raises(ScoreError, match=r"hyp\.de has 3 lines.*ref\.de has 3 lines.*short has 1 line\b"):
        scored([german[0]], [german[1]], "de", short)


def test_bad_utf_8_gives_line_byte_and_way_out(german: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "latin1"
    bad.write_bytes("gut\nGrüße\nja\n".encode("latin-1"))
    with pytest.raises(ScoreError, match=r"latin1, line 2: byte 0xfc at position 3 .*iconv"):
        scored([bad], [german[1]], "de", None)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "empty"), (b"\n\n", "empty"), (b"\x1f\x8bxx", "gzip file is cut off or damaged")],
)
def test_files_that_cannot_be_read(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ScoreError, match=says):
        read_lines(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="folder"):
        read_lines(tmp_path)


@pytest.mark.parametrize(
    ("hypotheses", "references", "target", "metrics", "error", "says"),
    [
        (False, True, "de", ("bleu",), ScoreError, "--hypotheses names no file"),
        (True, False, "de", ("bleu",), ScoreError, "--references names no file"),
        (True, True, "jp", ("bleu",), ScoreError, "--target: unknown language code 'jp'"),
        (True, True, "de", ("comet",), StudyError, "no metric 'comet'"),
        (True, True, "de", (), StudyError, "no metric was named"),
    ],
)
def test_senseless_requests(
    hypotheses: bool,
    references: bool,
    target: str,
    metrics: tuple[str, ...],
    error: type[UserError],
    says: str,
    german: tuple[Path, Path],
) -> None:
    with pytest.raises(error, match=says):
        scored([german[0]] * hypotheses, [german[1]] * references, target, None, metrics)


def test_a_missing_tokenizer_says_what_to_install(german: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(language: str) -> None:
        raise RuntimeError("Please install the extra dependencies\n for ja")

    monkeypatch.setitem(METRICS, "bleu", missing)
    with pytest.raises(ScoreError, match=r"pip install 'sacrebleu\[ja\]'"):
        scored([german[0]], [german[1]], "ja", None)


def rows_of(path: Path, *rows: object) -> Path:
    return write(path, [json.dumps(row, ensure_ascii=False) for row in rows])


@pytest.mark.parametrize("field", ["pred", "text", "hypothesis", "prediction", "hyp", "translation"])
@pytest.mark.parametrize("form", ["lines", "packed", "array"])
def test_json_is_scored_by_its_texts(tmp_path: Path, field: str, form: str) -> None:
    hypotheses, references = TEXTS["de"]
    plain = write(tmp_path / "plain.txt", hypotheses), write(tmp_path / "ref.txt", references)
    rows = [{"id": str(number), "src": "x", "ref": "y", field: text} for number, text in enumerate(hypotheses)]
    path = rows_of(tmp_path / "h.jsonl", *rows)
    if form == "packed":
        path = tmp_path / "h.jsonl.gz"
        path.write_bytes(gzip.compress((tmp_path / "h.jsonl").read_bytes()))
    elif form == "array":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    assert read_lines(path).lines == tuple(hypotheses)
    expected = scored([plain[0]], [plain[1]], "de", None)
    assert [line for line in scored([path], [plain[1]], "de", None) if ".txt" not in line and ".json" not in line] == [
        line for line in expected if ".txt" not in line
    ]


def test_references_and_sources_may_stand_in_predictions_too(tmp_path: Path) -> None:
    rows = [{"src": "One.", "ref": ["Eins."], "pred": "Eins. "}, {"src": "Two.", "ref": "Zwei.", "pred": "Two."}]
    path = rows_of(tmp_path / "predictions.jsonl", *rows)
    assert read_lines(path, "references").lines == ("Eins.", "Zwei.")
    assert read_lines(path, "sources").lines == ("One.", "Two.")
    assert read_lines(path).lines == ("Eins.", "Two.")


def test_a_list_of_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text('["Eins.", "Zwei\\nund drei."]', encoding="utf-8")
    assert read_lines(tmp_path / "h.json").lines == ("Eins.", "Zwei\nund drei.")


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("h.jsonl", ['{"id": 1, "score": 2}'], r"none of its fields \(id, score\) is known to hold hypotheses"),
        ("h.jsonl", ['{"pred": "a"}', '{"text": "b"}'], "line 2: 'pred' must be a text (found: None)"),
        ("h.jsonl", ['{"pred": "a"}', "b"], "line 2: the file begins as JSON lines, but this line is not JSON"),
        ("h.jsonl", ['{"pred": "a"}', "", '{"pred": "b"}'], "line 2: an empty line among JSON lines"),
        ("h.jsonl", ['{"pred": null}'], "line 1: 'pred' must be a text"),
        ("h.jsonl", ['{"pred": ["a", "b"]}'], "line 1: 2 texts in 'pred'; write a file for each"),
        ("rows.csv", ["id,pred", "1,a"], "is a table; write the column of texts to a file of its own"),
    ],
)
def test_json_whose_texts_cannot_be_told_is_refused(tmp_path: Path, name: str, lines: list[str], said: str) -> None:
    with pytest.raises(ScoreError) as caught:
        read_lines(write(tmp_path / name, lines))
    assert re.search(said, str(caught.value)) or said in str(caught.value)


def test_text_that_has_braces_is_text(tmp_path: Path) -> None:
    lines = ["[1] Ein Satz.", '{"x"} ist kein Objekt.', '{"pred": "b"}']
    assert read_lines(write(tmp_path / "h.txt", lines)).lines == tuple(lines)

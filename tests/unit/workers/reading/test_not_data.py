"""What stands in place of a file is told by its first bytes: a pointer, a web page, another archive, nothing at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from orchestrator.commands.score_files import ScoreError, read_lines
from orchestrator.study.yaml_file import read_study
from search_spaces.errors import ModelFilesError, StudyError
from workers.checkpoints.locate import resolve
from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError
from workers.reading.training_data import training_data

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
ROW = b'{"src": "A dog.", "ref": "Ein Hund.", "langs": "en-de"}\n'
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("pairs.jsonl", ROW)
    else:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            info = tarfile.TarInfo("pairs.jsonl")
            info.size = len(ROW)
            tar.addfile(info, io.BytesIO(ROW))
    return stream.getvalue()


CASES = {
    "pointer": (POINTER, "this is a Git LFS pointer, not the file. Fetch the file: git lfs pull"),
    "packed pointer": (gzip.compress(POINTER), "this is a Git LFS pointer"),
    "older pointer": (POINTER.replace(b"git-lfs.github", b"hawser.github"), "this is a Git LFS pointer"),
    "annex pointer": (b"/annex/objects/SHA256E-s1--abc.jsonl\n", "this is a git-annex pointer"),
    "page": (PAGE, "this is a web page, not the file: the download failed"),
    "page without doctype": (b"<HTML>\n<body>Sign in</body></HTML>", "this is a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "this is an XML document"),
    "xz": (lzma.compress(ROW), "this is an xz archive; plain and gzip files are read. Unpack it: xz -d pairs"),
    "bzip2": (bz2.compress(ROW), "this is a bzip2 archive"),
    "zip": (packed("zip"), "this is a zip archive"),
    "tar": (packed("tar"), "this is a tar archive"),
    "packed tar": (gzip.compress(packed("tar")), "this is a tar archive"),
    "gzip twice": (gzip.compress(gzip.compress(ROW)), "a gzip archive in a gzip archive"),
    "gzip cut off": (gzip.compress(os.urandom(4000))[:2000], "the gzip file is cut off or damaged"),
    "UTF-16": (ROW.decode().encode("utf-16"), "this is UTF-16 text, not UTF-8. Convert it: iconv -f UTF-16"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "this is a PDF document"),
    "empty": (b"", "the file is empty"),
    "packed nothing": (gzip.compress(b""), "the file is empty after unpacking"),
}


@pytest.mark.parametrize("name", ["pairs", "pairs.jsonl", "pairs.en", "pairs.gz"])
@pytest.mark.parametrize("case", CASES)
def test_data_that_is_none_gets_one_precise_line(tmp_path: Path, case: str, name: str) -> None:
    content, said = CASES[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    assert said in str(caught.value) and name in str(caught.value)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 250


@pytest.mark.parametrize("case", ["pointer", "page", "xz"])
def test_every_reader_of_a_file_says_so(tmp_path: Path, case: str) -> None:
    content, said = CASES[case]
    bad, good = tmp_path / "pairs.en", tmp_path / "pairs.de"
    bad.write_bytes(content)
    good.write_text("Ein Hund.\n")
    with pytest.raises(DataError, match=said.split(";")[0]):
        read_dataset(good, references=bad, langs="de-en")
    with pytest.raises(DataError, match=said.split(";")[0]):
        training_data([(str(bad), 1.0)], ["en-de"])
    with pytest.raises(ScoreError, match=said.split(";")[0]):
        read_lines(bad)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_model_with_a_pointer_in_it_is_refused_by_the_files_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 16)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(ModelFilesError, match=rf"{name}: this is a Git LFS pointer, not the file\. .*git lfs pull"):
        resolve(str(tmp_path))


def test_a_study_file_that_is_a_pointer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(POINTER)
    with pytest.raises(StudyError, match="this is a Git LFS pointer"):
        read_study(tmp_path / "study.yaml")


def test_a_link_that_leads_nowhere_says_where(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").symlink_to("../annex/pairs.jsonl")
    with pytest.raises(DataError, match=r"this is a link to \.\./annex/pairs\.jsonl, and there is no such file"):
        read_dataset(tmp_path / "pairs.jsonl")


@pytest.mark.parametrize("line", ["html is a language.", "<b>Bold</b> words", "version https://example.org", "BZ"])
def test_text_that_only_looks_alike_is_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.en").write_text(line + "\n")
    (tmp_path / "t.de").write_text("Text.\n")
    assert read_dataset(tmp_path / "t.en", references=tmp_path / "t.de").segments[0].source == line

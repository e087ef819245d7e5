"""The forms in which a kept model goes out, by the name that `mtpareto export --format` takes."""

from __future__ import annotations

KEPT, GGUF, MERGED, PACKED = "kept", "gguf", "merged-bf16", "compressed-tensors"
# Name -> what it is, in a few words.
IN_WORDS = {
    KEPT: "as it was kept",
    GGUF: "one file for llama.cpp",
    MERGED: "dense bfloat16 weights, for plain transformers",
    PACKED: "packed layers, for vLLM",
}
FORMATS = tuple(IN_WORDS)
# Form -> the engine that it is for, with which nothing was run.
ENGINES = {GGUF: "llama.cpp", PACKED: "vLLM"}

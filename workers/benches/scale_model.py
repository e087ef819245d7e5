"""A model folder of a real shape with random weights, and how long the plain way takes on it; a process of its own:

python -m workers.benches.scale_model make FOLDER SHAPE TOKENIZER
python -m workers.benches.scale_model plain FOLDER DATA SEGMENTS TOKENS
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workers.benches.compression_speed import SHAPES, Shape, config_of
from workers.checkpoints.model_files import TOKENIZER_FILES
from workers.loading.load import default_device
from workers.stored_forms.checkpoint import write_config, write_tensors

# The standard deviation with which transformers begins.
SPREAD = 0.02


def make_model(folder: Path, shape: Shape, tokenizer: Path, device: torch.device) -> None:
    """Write a Mistral of this shape in bfloat16, random weights made on the device a tensor at a time; the tokenizer is
    a copy. Its vocabulary is the tokenizer's where the shape's is smaller."""
    from transformers import AutoTokenizer

    folder.mkdir(parents=True)
    known = AutoTokenizer.from_pretrained(tokenizer)
    config = config_of(
        replace(shape, vocabulary=max(shape.vocabulary, len(known))),
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        pad_token_id=None,
        architectures=["MistralForCausalLM"],
    )
    write_tensors(folder, _random(config, device))
    write_config(folder, {**config.to_dict(), "dtype": "bfloat16"})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)


def _random(config: Any, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in model.state_dict().items():
        made = torch.ones(tensor.shape, dtype=torch.bfloat16, device=device)
        if tensor.dim() > 1:
            made.normal_(0.0, SPREAD, generator=generator)
        yield name, made.cpu()


def plain_way(folder: Path, data: Path, segments: int, tokens: int) -> dict[str, float]:
    """Seconds to load the model in NF4 with bitsandbytes, and seconds a segment of `generate`, one at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    sources = [json.loads(line)["src"] for line in data.read_text("utf-8").splitlines()[: segments + 1]]
    began = time.perf_counter()
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map=default_device())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = time.perf_counter() - began
    seconds = []
    for source in sources:
        began = time.perf_counter()
        given = tokenizer(f"Translate this from English to German:\nEnglish: {source}\nGerman:", return_tensors="pt")
        ids = given["input_ids"].to(model.device)
        made = model.generate(input_ids=ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        tokenizer.decode(made[0].tolist())
        seconds.append(time.perf_counter() - began)
    # The first one warms up.
    return {"load_s": loaded, "segment_s": sum(seconds[1:]) / segments}


def main(words: list[str]) -> int:
    """Do what the words say; prints JSON."""
    if words[0] == "make":
        make_model(Path(words[1]), SHAPES[words[2]], Path(words[3]), default_device())
        return 0
    print(json.dumps(plain_way(Path(words[1]), Path(words[2]), int(words[3]), int(words[4]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

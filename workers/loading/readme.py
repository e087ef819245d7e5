"""The README.md of a compressed folder: what it holds and how it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search_spaces.methods.registry import Step
from search_spaces.sizes.tensor_table import is_embedding
from workers.checkpoints.adapters import ADAPTER, has_adapter
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.loading.custom_format import is_own
from workers.stored_forms.checkpoint import packed_stems

README = "README.md"
SPARSE = "sparse weights, stored as a mask and the weights that stay"
EMBEDDINGS = "quantized token embeddings"

# The `quant_method` of config.json -> the package that transformers needs to load it.
PACKAGES = {"compressed-tensors": "compressed-tensors", "bitsandbytes": "bitsandbytes"}
TRANSLATING = """
## Translating

mtpareto asks the model as its study did, where `prompt.json` says how:

```sh
mtpareto translate --model FOLDER --source en --target de < in > out
```
"""


def write_readme(folder: Path, base_name: str, steps: Sequence[Step]) -> None:
    """Write README.md for the folder that these steps, in this order, have made of the base model."""
    loading = _with_this_project(folder) if is_own(folder) else _with_transformers(folder)
    if has_adapter(folder) and not is_own(folder):
        loading += _with_peft(folder)
    made = "\n".join(f"{number}. `{step.describe()}`" for number, step in enumerate(steps, start=1))
    before = f"# {base_name}, compressed\n\nMade from {base_name} by mtpareto, in this order:\n\n{made}\n\n"
    text = before + loading + TRANSLATING
    (folder / README).write_text(text, encoding="utf-8")


def _with_transformers(folder: Path) -> str:
    packages = " and ".join(f"`{name}`" for name in ("transformers", *_packages(folder)))
    config = read_config(folder)
    trusted = ", trust_remote_code=True" if "auto_map" in config else ""
    # transformers' default leaves the bounds of Gemma 2's attention out.
    capped = ', attn_implementation="eager"' if config.get("model_type") == "gemma2" else ""
    return f"""## Loading

transformers loads this folder by itself; {packages} must be installed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER"{trusted}{capped})
tokenizer = AutoTokenizer.from_pretrained("FOLDER"{trusted})
```
"""


def _with_peft(folder: Path) -> str:
    lines = [
        "from peft import PeftModel",
        "",
        f'model = PeftModel.from_pretrained(model, "FOLDER", subfolder="{ADAPTER}")',
    ]
    if "config_groups" in read_config(folder).get("quantization_config", {}):
        lines[:1] = ["import torch", lines[0]]
        lines[-1:] = [
            "model(torch.tensor([[0]]))  # multiplies the packed weights out, which peft waits for",
            lines[-1],
        ]
    code = "\n".join(lines)
    return f"""
What was trained after that is an adapter, kept apart in `{ADAPTER}/`: without it the model is the one before its
training. `peft` must be installed as well.

```python
{code}
```
"""


def _with_this_project(folder: Path) -> str:
    held = " and ".join(_own_forms(folder))
    beside = f", and merges the adapter in `{ADAPTER}/` into them" if has_adapter(folder) else ""
    packages = ", ".join(f"`{name}`" for name in _packages(folder))
    needed = f"; {packages} must be installed as well" if packages else ""
    trusted = ", trust_remote_code=True" if "auto_map" in read_config(folder) else ""
    return f"""## Loading

The folder holds {held}. transformers can't read these, so the weights are in `packed*.safetensors`, where it looks for
none: it refuses the folder instead of running with random weights. mtpareto decodes them{beside}{needed}:

```python
from mtpareto import load_model, load_tokenizer

model = load_model("FOLDER"{trusted})
tokenizer = load_tokenizer("FOLDER"{trusted})
```
"""


def _own_forms(folder: Path) -> list[str]:
    stems = packed_stems(read_checkpoint(folder).tensors)
    sparse = any("weight_mask" in parts for parts in stems.values())
    embeddings = any(is_embedding(f"{stem}.weight") for stem in stems)
    return [SPARSE] * sparse + [EMBEDDINGS] * embeddings


def _packages(folder: Path) -> list[str]:
    """Beside transformers. The integers of an own folder are packed with compressed-tensors, whatever else it holds."""
    quantization = read_config(folder).get("quantization_config", {})
    found = {PACKAGES[quantization["quant_method"]]} if quantization else set()
    if is_own(folder) and "config_groups" in quantization:
        found.add(PACKAGES["compressed-tensors"])
    return sorted(found)

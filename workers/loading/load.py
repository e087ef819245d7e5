"""Loading a candidate's artefact for scoring, and the device it runs on."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workers.checkpoints.adapters import read_adapter
from workers.checkpoints.model_files import needed_alone, read_checkpoint, read_config
from workers.loading.activation_quantization import token_by_token
from workers.loading.custom_format import is_own, load_own, refuse_incomplete
from workers.loading.dequantized import with_dense_layers
from workers.loading.placing import WEIGHTS_SHARE
from workers.loading.spread import Placement, device_map_of, placement_of, skeleton, with_moves
from workers.runtime.gpu_memory import free_memory

# Float32 on a CPU: the same numbers on every machine, and as fast as bfloat16 without AMX (0.57 s against 0.52 s for
# 32 steps of 64 segments with the shipped model, 2 cores with AVX512-BF16).
CPU_DTYPE = torch.float32
CUDA_DTYPE = torch.bfloat16
# The modules of compressed-tensors that load a model under a progress bar.
COMPRESSED_TENSORS_BARS = (
    "compressed_tensors.compressors.model_compressors.model_compressor",
    "compressed_tensors.offload.dispatch",
    "compressed_tensors.quantization.lifecycle.apply",
)


def default_device() -> torch.device:
    """The first GPU this process may use, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def placement_for(folder: Path, asked: str, trust_remote_code: bool = False) -> Placement:
    """Where the folder's model goes when it runs dense, or in bitsandbytes' own form.

    asked: "auto" for as few GPUs as hold it, "balanced" for all, or a device. Raises StudyError for anything else.
    """
    return placement_of(asked, default_device(), lambda: _sizes(folder, trust_remote_code))


def gpus_that_hold(folder: Path, trust_remote_code: bool = False) -> list[str]:
    """The GPUs that have room for the folder's whole model by themselves, where there are several; else []."""
    count = torch.cuda.device_count()
    if count < 2:
        return []
    weights = sum(size for _, size in _sizes(folder, trust_remote_code))
    devices = [f"cuda:{number}" for number in range(count)]
    return [device for device in devices if weights <= WEIGHTS_SHARE * free_memory(torch.device(device))]


def _sizes(folder: Path, trust_remote_code: bool) -> Iterator[tuple[str, int]]:
    """Name and bytes of the model's tensors as they are held on a GPU."""
    if is_bitsandbytes(folder):
        yield from ((name, tensor.bytes) for name, tensor in read_checkpoint(folder).tensors.items())
        return
    for name, weight in skeleton(folder, CUDA_DTYPE, trust_remote_code).named_parameters():
        yield name, weight.nbytes


def load_model(folder: str | Path, device_map: str | Placement = "auto", trust_remote_code: bool = False) -> Any:
    """The model in eval mode, its weights as the artefact stores them: packed and sparse weights are decoded for the
    dense engine, bitsandbytes layers and layers with quantized activations stay as they are. An adapter that the folder
    keeps apart is merged into the dense weights, to which bitsandbytes layers are then decoded too.

    device_map: "auto" for as few GPUs as hold it, "balanced" for its layers spread over all, a device, or a placement.
    bfloat16 on a GPU, float32 on a CPU. Raises ModelFilesError when weights of the architecture are missing, or the
    folder holds others, which nothing would load, and StudyError for another device_map.
    """
    folder = Path(folder)
    if isinstance(device_map, str):
        device_map = placement_for(folder, device_map, trust_remote_code)
    dtype = CUDA_DTYPE if device_map.home.type == "cuda" else CPU_DTYPE
    return _load(folder, dtype, device_map, trust_remote_code)


def load_for_calibration(folder: Path, device: torch.device, trust_remote_code: bool = False) -> Any:
    """The model in host memory, in the type it is calibrated in: bfloat16 for a GPU, float32 for the CPU.

    Loads what `load_model` loads, and raises what it raises.
    """
    dtype = CUDA_DTYPE if device.type == "cuda" else CPU_DTYPE
    return _load(folder, dtype, Placement(torch.device("cpu")), trust_remote_code)


def _load(folder: Path, dtype: torch.dtype, placement: Placement, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    quieten()
    attend_without_plans()
    if "config_groups" in read_config(folder).get("quantization_config", {}):
        quieten_compressed_tensors()
    adapters = read_adapter(folder, default_device())
    device_map = {"": placement.home}
    if placement.is_spread:
        device_map = device_map_of(skeleton(folder, dtype, trust_remote_code), placement)
    if is_own(folder) or (adapters and not is_bitsandbytes(folder)):
        own = load_own(
            folder,
            dtype,
            device_map=device_map,
            waits_at=placement.of,
            decode_on=default_device(),
            trust_remote_code=trust_remote_code,
            adapters=adapters,
        )
        return with_moves(token_by_token(with_soft_caps(own)), placement)
    with needed_alone(folder) as needed:
        model, found = AutoModelForCausalLM.from_pretrained(
            needed,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    model.config.name_or_path = str(folder)
    refuse_incomplete(folder, found["missing_keys"], found["unexpected_keys"])
    model = with_soft_caps(model)
    model = token_by_token(with_dense_layers(model, adapters).eval() if adapters else model.eval())
    return with_moves(model, placement)


def with_soft_caps(model: Any) -> Any:
    """The model, its attention by products where its config bounds the scores: transformers' default, which is torch's
    kernel, leaves Gemma 2's bound out without a word (seen on 5.17)."""
    if getattr(model.config, "attn_logit_softcapping", None) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
    return model


def is_bitsandbytes(folder: Path) -> bool:
    """Whether the folder's layers are stored in bitsandbytes' own form."""
    return bool(read_config(folder).get("quantization_config", {}).get("quant_method") == "bitsandbytes")


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """The artefact's tokenizer, padding on the left as generation needs."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)


def attend_without_plans() -> None:
    """Take cuDNN's attention from torch's choice on a GPU, for this process.

    cuDNN plans each shape before it runs it first: 0.55 s on an H200 for the gradients of one batch, which ran for
    0.04 s. Batches of sentences hardly ever repeat a shape. Torch's other kernels need no plan.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def quieten() -> None:
    """Turn off progress bars and the per-layer cast notes of the libraries below; errors and warnings stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # bitsandbytes warns of the float32 -> float16 cast at each layer of each forward on a CPU.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quieten_compressed_tensors() -> None:
    """Turn off the progress bars that compressed-tensors draws for every model it loads; it has no setting for that."""
    for name in COMPRESSED_TENSORS_BARS:
        importlib.import_module(name).tqdm = _no_bar  # type: ignore[attr-defined]


def _no_bar(*arguments: Any, **keywords: Any) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(*arguments, **{**keywords, "disable": True})

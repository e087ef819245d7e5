"""Which architectures the decoder knows, and how each names the parts of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from workers.decoder.blueprint import Activation, Blueprint, Layer, Norm
from workers.decoder.projections import head, is_capturable, module_output, side_by_side
from workers.decoder.settings import why_left

# Their attention, feed-forward and rotary modules are named alike in transformers 5; what differs is read from them.
FAMILIES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
)
# Multiplies by 1 + weight before it rounds, and has norms behind both branches too.
WITH_OFFSET = ("Gemma2ForCausalLM", "Gemma3ForCausalLM")
# Which settings of their configs bound the scores of attention and of the head; elsewhere nothing reads them.
SOFT_CAPS = {
    "Gemma2ForCausalLM": ("attn_logit_softcapping", "final_logit_softcapping"),
    "Gemma3ForCausalLM": ("final_logit_softcapping",),
}
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
# Frequencies that change with the length of what was read so far.
GROWING_ROPES = ("dynamic", "longrope")


def why_unknown(model: Any, beams: int = 1) -> str | None:
    """Why the decoder can't run this model as `generate` does, in words; None when it can."""
    name = type(model).__name__
    if name not in FAMILIES:
        return f"{name} is none of {', '.join(FAMILIES)}"
    if not type(model).__module__.startswith("transformers."):
        return f"its {name} is its own code, not transformers'"
    config = model.config
    if _activation_name(config) not in ACTIVATIONS:
        return f"its activation {_activation_name(config)!r} is none of {', '.join(ACTIVATIONS)}"
    if growing := [kind for kind in _rope_types(model) if kind in GROWING_ROPES]:
        return f"its rotary embedding of type {growing[0]!r} changes with the length"
    for setting in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
        if getattr(config, setting, None) and setting not in SOFT_CAPS.get(name, ()):
            return f"its config sets {setting}"
    if (left := why_left(model.generation_config, beams)) is not None:
        return left
    return _why_misplaced(model)


def _why_misplaced(model: Any) -> str | None:
    """What of where its weights lie the decoder can't follow, in words; layers on several GPUs it can."""
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        return "accelerate moves its tensors from one device to another"
    kinds = {parameter.device.type for parameter in model.parameters()}
    if kinds not in ({"cpu"}, {"cuda"}):
        return f"it is on {' and '.join(sorted(kinds))}"
    inner = model.model
    around = (inner.embed_tokens, inner.norm, model.lm_head)
    if len({device for module in around for device in _devices(module)}) > 1:
        return "its embeddings, last norm and head lie on several devices"
    if any(len(_devices(layer)) > 1 for layer in inner.layers):
        return "one of its layers lies on several devices"
    return None


def _devices(module: Any) -> set[torch.device]:
    return {parameter.device for parameter in module.parameters()}


@torch.no_grad()
def read_blueprint(model: Any) -> Blueprint:
    """The model by roles; `why_unknown` must have had nothing to say. Weights that stand side by side are joined."""
    device = model.model.norm.weight.device
    # compressed-tensors multiplies a model's weights out when it is first called.
    model(torch.zeros((1, 1), dtype=torch.long, device=device))
    inner = model.model
    offset = type(model).__name__ in WITH_OFFSET
    cap = _cap(model, "attn_logit_softcapping")
    by_kind = isinstance(inner.rotary_emb.rope_type, dict)
    layers = tuple(_layer(layer, model.config, offset, cap, by_kind) for layer in inner.layers)
    linears = [module for layer in inner.layers for module in _linears(layer)] + [model.lm_head]
    return Blueprint(
        embed=inner.embed_tokens,
        layers=layers,
        norm=_norm(inner.norm, offset),
        head=head(model.lm_head),
        cap=_cap(model, "final_logit_softcapping"),
        ropes={name: _rope(inner.rotary_emb, name, model.dtype) for name in {layer.rope for layer in layers}},
        activation=ACTIVATIONS[_activation_name(model.config)],
        capturable=all(is_capturable(module) for module in linears),
        vocabulary=model.lm_head.out_features,
        dtype=model.dtype,
        device=device,
    )


def _layer(layer: Any, config: Any, offset: bool, cap: float | None, rope_by_kind: bool) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    head_dim = attention.head_dim
    kind = getattr(attention, "layer_type", None) or "full_attention"
    q_norm, k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    # With a norm behind each branch, `post_attention_layernorm` is the one behind; else it is the one before the MLP.
    sandwich = hasattr(layer, "pre_feedforward_layernorm")
    return Layer(
        before_attention=_norm(layer.input_layernorm, offset),
        qkv=side_by_side([attention.q_proj, attention.k_proj, attention.v_proj]),
        q_norm=_norm(q_norm, offset) if q_norm is not None else None,
        k_norm=_norm(k_norm, offset) if k_norm is not None else None,
        out=module_output(attention.o_proj),
        after_attention=_norm(layer.post_attention_layernorm, offset) if sandwich else None,
        before_mlp=_norm(layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm, offset),
        gate_up=side_by_side([mlp.gate_proj, mlp.up_proj]),
        down=module_output(mlp.down_proj),
        after_mlp=_norm(layer.post_feedforward_layernorm, offset) if sandwich else None,
        heads=attention.q_proj.out_features // head_dim,
        kv_heads=attention.k_proj.out_features // head_dim,
        head_dim=head_dim,
        scale=float(attention.scaling),
        cap=cap,
        window=_window(attention, config),
        rope=kind if rope_by_kind else "",
        device=layer.input_layernorm.weight.device,
    )


def _cap(model: Any, setting: str) -> float | None:
    if setting not in SOFT_CAPS.get(type(model).__name__, ()):
        return None
    cap = getattr(model.config, setting)
    return None if cap is None else float(cap)


def _window(attention: Any, config: Any) -> int | None:
    """Positions a token sees, itself included: the layer's own setting, where it has one."""
    own = hasattr(attention, "sliding_window")
    window: int | None = attention.sliding_window if own else getattr(config, "sliding_window", None)
    return window if own or config.model_type == "mistral" else None


def _norm(module: Any, offset: bool) -> Norm:
    eps = float(module.eps if offset else module.variance_epsilon)
    weight = module.weight.data
    return Norm(1.0 + weight.float(), eps, True) if offset else Norm(weight, eps)


def _rope(rotary: Any, kind: str, dtype: torch.dtype) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    def table(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        like = torch.empty(0, dtype=dtype, device=positions.device)
        cos, sin = rotary(like, positions[None], kind) if kind else rotary(like, positions[None])
        return cos[0], sin[0]

    return table


def _linears(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    ]


def _activation_name(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", ""))


def _rope_types(model: Any) -> list[str]:
    kinds = model.model.rotary_emb.rope_type
    return list(kinds.values()) if isinstance(kinds, dict) else [kinds]

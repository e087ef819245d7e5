"""What a model's generation config asks of decoding: done by the decoder, without effect here, or left to `generate`.

Every setting of transformers' GenerationConfig is in one of the tables below; one that a newer transformers adds is
left to `generate` wherever it is set.
"""

from __future__ import annotations

from typing import Any

from search_spaces.errors import StudyError

# What a caller says each time, or what changes neither greedy nor beam search: the length limit, stop and pad tokens,
# sampling (which is off), what is given back beside the tokens, and how work and memory are organised.
WITHOUT_EFFECT = frozenset(
    {
        "max_length",
        "max_new_tokens",
        "do_sample",
        "num_beams",
        "num_return_sequences",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "decoder_start_token_id",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "top_h",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        "use_cache",
        "cache_config",
        "max_cache_len",
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "max_matching_ngram_size",
        "assistant_lookbehind",
        "target_lookbehind",
        "assistant_ensemble_weight",
        "compile_config",
        "disable_compile",
        "prefill_chunk_size",
        "continuous_batching_config",
        "transformers_version",
    }
)
# Done by the decoder, as `generate` does it.
DONE = frozenset({"repetition_penalty"})
# Left to `generate`, but for the values at which they do nothing; None does nothing in all of them.
LEFT: dict[str, tuple[Any, ...]] = {
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "remove_invalid_values": (False,),
    "renormalize_logits": (False,),
    "guidance_scale": (1.0,),
    "watermarking_config": (),
    "token_healing": (False,),
    "stop_strings": ([],),
    "max_time": (),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "diversity_penalty": (0.0,),
    "num_beam_groups": (1,),
    "constraints": (),
    "force_words_ids": (),
    "low_memory": (False,),
    "prompt_lookup_num_tokens": (),
    "assistant_early_exit": (),
    "speculation_type": (),
    "use_mtp": (False,),
    # But for the quantized one they keep the same keys and values.
    "cache_implementation": (
        "dynamic",
        "static",
        "offloaded",
        "offloaded_static",
        "sliding_window",
        "hybrid",
        "hybrid_chunked",
        "offloaded_hybrid",
        "offloaded_hybrid_chunked",
    ),
}
# Likewise, and only beam search looks at them.
LEFT_WITH_BEAMS: dict[str, tuple[Any, ...]] = {"length_penalty": (1.0,), "early_stopping": (False,)}
# Their result depends on a prompt's ids, or on its length and the limit: padding would count as text.
READ_THE_PROMPT = (
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "sequence_bias",
    "min_length",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "watermarking_config",
    "prompt_lookup_num_tokens",
)


def why_left(config: Any, beams: int) -> str | None:
    """The setting of this generation config that is left to `generate`, in words; None when there is none."""
    left = LEFT | (LEFT_WITH_BEAMS if beams > 1 else {})
    for name in settings_of(config):
        value = getattr(config, name)
        if name in WITHOUT_EFFECT or name in DONE or value is None or (beams == 1 and name in LEFT_WITH_BEAMS):
            continue
        if value not in left.get(name, ()):
            return f"its generation config sets {name}={value!r}"
    return None


def settings_of(config: Any) -> list[str]:
    """The names that transformers knows of; what else a generation config holds is read by nobody."""
    return [name for name in vars(type(config)()) if not name.startswith("_")]


def repetition_penalty(config: Any) -> float:
    """By what the score of a token that is there already is divided, or multiplied when it is negative; 1 is none.

    Raises StudyError where `generate` raises: for what is no positive float.
    """
    penalty = config.repetition_penalty
    if penalty is None or penalty == 1.0:
        return 1.0
    if not isinstance(penalty, float) or penalty <= 0.0:
        raise StudyError(
            f"repetition_penalty is {penalty!r}, and must be a float above 0 (1.0 is none); fix generation_config.json"
        )
    return penalty


def reads_the_prompt(config: Any) -> bool:
    """Whether the generation config sets anything for which no prompt may be padded, and none take another's limit."""
    idle = LEFT | {"repetition_penalty": (1.0,)}
    return any(
        (value := getattr(config, name, None)) is not None and value not in idle[name] for name in READ_THE_PROMPT
    )

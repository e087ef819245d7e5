"""What each bench's figures are, and the marks they are held to."""

from __future__ import annotations

from orchestrator.benches.table import Figures

COMPRESS = Figures(
    title="Calibration and quantization",
    note="Marks of seconds and memory are for the shape mistral-7b on one H100.",
    known={
        "gptq4_s": ("seconds: the short calibration and GPTQ at 4 bits", "<= 30"),
        "gptq4_1m_s": ("seconds: the long calibration and GPTQ at 4 bits", "<= 130"),
        "gptq_all_widths_s": ("seconds: the short calibration and GPTQ at 8, 4, 3 and 2 bits", ""),
        "gptq_all_widths_ratio": ("all four widths over one, in time", "<= 1.3"),
        "peak_gpu_gib": ("GiB of GPU memory at most, weights included", "<= 37.2"),
        "llmcompressor_s": ("seconds: llm-compressor, short calibration, 4 bits, scaled to all layers", ""),
        "llmcompressor_1m_s": ("seconds: llm-compressor, long calibration, 4 bits, scaled to all layers", ""),
        "llmcompressor_ratio_65k": ("its seconds over ours, short calibration", ">= 2.5"),
        "llmcompressor_ratio_1m": ("its seconds over ours, long calibration", ">= 6"),
        "llmcompressor_ratio_four_widths": ("its four runs over our one", ">= 8"),
        "layer_error_ours_over_llmcompressor_random": ("our output error over its, random weights, layer 0", "<= 1.01"),
        "layer_error_ours_over_llmcompressor_model": ("our output error over its, the model, all layers", "<= 1"),
        "layer_error_ours_over_llmcompressor_model_layer0": ("the same, layer 0", "<= 1"),
        "layer_error_gptq_over_rtn_4": (
            "GPTQ's output error over RTN's on pairs left out, 4 bits",
            "<= 0.6",
        ),
        "layer_error_gptq_over_rtn_3": ("the same, 3 bits", "<= 0.6"),
        "layer_error_gptq_over_rtn_2": ("the same, 2 bits", "<= 0.6"),
        "chrf_bf16": ("chrF, uncompressed", ""),
        "chrf_gptq4": ("chrF, GPTQ at 4 bits in groups of 64", ""),
        "chrf_gptq3": ("chrF, GPTQ at 3 bits in groups of 64", ""),
        "chrf_rtn3": ("chrF, round-to-nearest at 3 bits in groups of 64", ""),
        "chrf_uniform3": ("chrF, uniform GPTQ at 3 bits with 8-bit embeddings: the size of the next three", ""),
        "chrf_mixed": ("chrF, widths of layers and embeddings by measured divergence", ""),
        "chrf_raw_error": ("chrF, widths of layers by raw weight error, 8-bit embeddings", ""),
        "chrf_raw_error_embeddings": ("chrF, widths of layers and embeddings by raw weight error", ""),
        "gptq4_minus_bf16": ("chrF that GPTQ at 4 bits gains on none", ">= -0.5"),
        "gptq3_minus_rtn3": ("chrF that GPTQ gains on RTN at 3 bits", ">= 0"),
        "mixed_minus_uniform3": ("chrF that mixed gains on uniform", ""),
        "mixed_minus_raw_error": ("chrF that mixed gains on raw error by layers", ""),
        "mixed_minus_raw_error_embeddings": ("chrF that mixed gains on raw error with the same choices", ""),
        "bytes_mixed_over_uniform3": ("bytes over those of uniform 3", ""),
        "bytes_raw_error_over_uniform3": ("bytes over those of uniform 3", ""),
        "bytes_raw_error_embeddings_over_uniform3": ("bytes over those of uniform 3", ""),
    },
    above_zero=("mixed_minus_uniform3_low", "mixed_minus_raw_error_low"),
)

SCALE = Figures(
    title="A search at scale",
    note="Marks are for the shape mistral-7b on one H100: twelve candidates, 512 segments, 64 new tokens.",
    known={
        "minutes": ("minutes: from the command to the written report", "<= 4"),
        "candidates_measured": ("candidates measured, the baseline included", ">= 12"),
        "candidates_failed": ("trials that failed", "<= 0"),
        "gpu_busy_share": ("share of seconds in which the GPU had work", ">= 0.6"),
        "gpu_busy_mean": ("its mean utilization", ""),
        "peak_disk_over_model": ("bytes on disk at most, beyond the kept artefacts, over the model's", "<= 1"),
        "turnaround_s": ("seconds of a warm worker between two trials and outside their stages, mean", "<= 1"),
        "seed_way_hours": ("hours of bitsandbytes and generate, a segment at a time, for the same work", ""),
        "seed_way_load_s": ("seconds: the plain way loads and quantizes the model", ""),
        "seed_way_segment_s": ("seconds: the plain way translates a segment", ""),
    },
)

WIDTHS = {"bf16": "uncompressed", "8bit": "8 bits", "4bit": "4 bits", "3bit": "3 bits", "2bit": "2 bits"}

DECODE = Figures(
    title="Decoding",
    note="Of random weights of the shape mistral-7b in bfloat16 on one H100, prompts of 80 tokens and 64 new ones, "
    "reading the prompts included, kernels compiled and steps captured before; `generate` is transformers'. Weights of "
    "fewer bits are rounded in groups of 128 and stay packed on the device, embeddings and head in bfloat16.",
    known={
        "ratio_b64": ("tokens a second over `generate`'s, 64 segments at a time", ">= 8"),
        "ratio_b256": ("the same, 256 at a time", ">= 4"),
        "ratio_mixed_1024": ("1,024 segments of mixed lengths, 256 at a time, over `generate` with 64", ">= 10"),
        "ratio_mixed_1024_b64": ("the same, 64 at a time", ""),
        "tokens_s_b64": ("tokens a second, 64 segments at a time", ""),
        "tokens_s_b256": ("tokens a second, 256 at a time", ""),
        "tokens_s_mixed": ("tokens a second, mixed lengths, 256 at a time", ""),
        "generate_tokens_s_b64": ("tokens a second, `generate`, 64 at a time", ""),
        "generate_tokens_s_b256": ("tokens a second, `generate`, 256 at a time", ""),
        "generate_tokens_s_mixed": ("tokens a second, `generate`, mixed lengths, 64 at a time", ""),
        "seconds_1000_segments": ("seconds: 1,000 segments, 256 at a time", "<= 15"),
        "seconds_1000_segments_b64": ("seconds: 1,000 segments, 64 at a time", "<= 15"),
        "warm_up_s_b64": ("seconds: the first call, 64 at a time, which compiles and captures", ""),
        "warm_up_s_b256": ("seconds: the first call, 256 at a time", ""),
        "identical_share": ("share of the model's outputs that equal `generate`'s on the GPU, bfloat16", ""),
        **{
            f"tokens_s_{name}_b{batch}": (f"tokens a second, weights {what}, {batch} at a time", "")
            for name, what in WIDTHS.items()
            for batch in (1, 8, 64)
        },
        **{f"weights_gib_{name}": (f"GiB of weights on the device, {what}", "") for name, what in WIDTHS.items()},
        **{f"peak_gib_{name}": (f"GiB of GPU memory at most, {what}", "") for name, what in WIDTHS.items()},
        "cpu_ratio": ("`generate`'s seconds with 64 at a time on a CPU over ours with 256", ">= 2"),
        "cpu_ratio_best": ("the same, each at its better batch of 64 and 256", ""),
        "cpu_ratio_b64": ("the same at batch 64 for both", ""),
        "cpu_identical_share": ("share of its outputs that equal `generate`'s on the CPU, float32", ">= 1"),
        "cpu_seconds": ("seconds: the segments on the CPU, 256 at a time", ""),
        "cpu_seconds_generate": ("the same, `generate`, 64 at a time", ""),
    },
)

CPU = Figures(
    title="Decoding on a CPU that is not alone",
    note="The shipped model in a Ray worker, 10 runs a batch after one that is not counted, beside a program "
    "that keeps half of the cores busy. `spinning`: OpenMP's threads wait as they do where nothing is set.",
    known={
        f"{prefix}{name}_b{batch}": (f"{what}, {batch} segments{how}", mark if not prefix else "")
        for prefix, how in (("", ""), ("spinning_", ", spinning"))
        for name, what, mark in (
            ("worst_over_best", "the slowest run's seconds over the fastest's", "<= 2"),
            ("best_s", "seconds: the fastest run", ""),
            ("median_s", "seconds: the median", ""),
            ("worst_s", "seconds: the slowest run", ""),
        )
        for batch in (64, 128)
    },
)

DISTILLATION = Figures(
    title="Distillation and recovery",
    note="chrF is of the model on its data, the mean over pairs; every training is a step of a candidate, measured as "
    "a trial is. The parts with random weights time optimizer steps, the first ones left out.",
    known={
        "recovered_share_3bit": (
            "share of the chrF lost by GPTQ at 3 bits that training won back, over seeds; above 1 it is better than "
            "the uncompressed model",
            ">= 0.8",
        ),
        "recovered_share_2bit": ("the same at 2 bits", ">= 0.6"),
        "half_depth_chrf_share": ("chrF of half the layers, healed, over the baseline's", ">= 0.95"),
        "student_distilled_minus_references": (
            "chrF that a student of half the width gains by distillation over references alone, mean over seeds",
            ">= 0.5",
        ),
        "student_distilled_minus_references_least": ("the same, the least of the seeds", ""),
        "student_parameters_share": ("its parameters over the teacher's", "<= 0.5"),
        "cached_over_live_tokens_s": ("tokens a second with a cached teacher over a live one", ">= 1.4"),
        "chrf_cached_minus_live": ("chrF of the student, cached teacher minus live, mean over seeds", ">= -0.3"),
        "zero2_speedup_2gpu": ("tokens a second, DeepSpeed ZeRO-2 on 2 GPUs over one GPU", ">= 1.7"),
        "zero3_speedup_2gpu": ("the same, ZeRO-3", ">= 1.7"),
        "lora_7b_matrix_rate_share": (
            "4 x parameters x tokens a second of a LoRA step over the bf16 matrix rate",
            ">= 0.45",
        ),
        "chrf_baseline": ("chrF, uncompressed", ""),
        "chrf_gptq4": ("chrF, GPTQ at 4 bits in groups of 64", ""),
        "chrf_gptq3": ("the same at 3 bits", ""),
        "chrf_recovered3": (
            "chrF, 3 bits trained quantization-aware on the teacher's translations, mean over seeds",
            "",
        ),
        "chrf_recovered3_least": ("the same, the least of the seeds", ""),
        "chrf_gptq2": ("chrF, GPTQ at 2 bits", ""),
        "chrf_recovered2": (
            "chrF, 2 bits trained quantization-aware on the teacher's translations, mean over seeds",
            "",
        ),
        "chrf_recovered2_least": ("the same, the least of the seeds", ""),
        "bytes_baseline": ("bytes on disk", ""),
        "bytes_gptq4": ("bytes on disk", ""),
        "bytes_gptq3": ("bytes on disk", ""),
        "bytes_recovered3": ("bytes on disk", ""),
        "bytes_gptq2": ("bytes on disk", ""),
        "bytes_recovered2": ("bytes on disk", ""),
        "bytes_half": ("bytes on disk", ""),
        "bytes_half_healed": ("bytes on disk", ""),
        "chrf_half": ("chrF, half the layers, untrained", ""),
        "chrf_half_healed": ("the same, healed", ""),
        "chrf_student_distilled": ("chrF of the student, distilled, mean over seeds", ""),
        "chrf_student_references": ("the same, references alone", ""),
        "chrf_student_cached": ("the same, distilled from a cached teacher", ""),
        "bytes_student": ("bytes on disk", ""),
        "live_tokens_s": ("tokens a second with a live teacher", ""),
        "cached_tokens_s": ("tokens a second with a cached teacher", ""),
        "cache_bytes_a_token": ("bytes the cache takes a target token", ""),
        "lora_7b_tokens_s": ("tokens a second of a LoRA step", ""),
        "matrix_rate_tflops": ("the GPU's bf16 matrix rate, 8192 cubed, in 1e12 operations a second", ""),
        "lora_7b_peak_gib": ("GiB of GPU memory at most", ""),
        "sharded_parameters": ("parameters of the model trained on one GPU and on two", ""),
        "one_gpu_tokens_s": ("tokens a second, all weights trained on one GPU", ""),
        "zero2_tokens_s": ("the same, ZeRO-2 on 2 GPUs", ""),
        "zero3_tokens_s": ("the same, ZeRO-3 on 2 GPUs", ""),
        "one_gpu_halved_tokens_s": (
            "the same on one GPU, micro-batches of half the size, waited for after each step",
            "",
        ),
        "zero2_1gpu_tokens_s": ("the same, ZeRO-2 on one GPU", ""),
        "one_gpu_peak_gib": ("GiB of GPU memory at most, one GPU", ""),
        "zero2_peak_gib": ("the same, the first of 2 GPUs, ZeRO-2", ""),
        "zero3_peak_gib": ("the same, ZeRO-3", ""),
        "one_gpu_halved_peak_gib": ("the same, one GPU, micro-batches of half the size", ""),
        "zero2_1gpu_peak_gib": ("the same, ZeRO-2 on one GPU", ""),
        "one_gpu_halved_curve_gap": (
            "nats a target token: the noise, as large as it gets, of one GPU's loss curve",
            "",
        ),
        "one_gpu_halved_curve_gap_mean": ("the same, its mean", ""),
        "zero2_curve_gap": ("nats a target token between the loss curves of one GPU and ZeRO-2, the largest", ""),
        "zero2_curve_gap_mean": ("the same, its mean", ""),
        "zero3_curve_gap": ("the same, ZeRO-3, the largest", ""),
        "zero3_curve_gap_mean": ("the same, its mean", ""),
        "zero2_1gpu_curve_gap": ("the same, ZeRO-2 on one GPU, the largest", ""),
        "zero2_1gpu_curve_gap_mean": ("the same, its mean", ""),
        "curve_points": ("points of the curves between which those gaps are", ""),
    },
)

SEARCHERS = {
    "ours": "ours",
    "random": "random order",
    "grid": "each option alone, then products of those that cost little",
    "tpe_cold": "TPE without anchors",
    "warm_tpe": "TPE after the hand-written anchors",
    "nsga2": "NSGA-II",
    "gp": "a Gaussian process",
}
SEARCH_MARKS = {
    "ratio_warm_tpe": "<= 0.25",
    "ratio_random": "<= 0.1667",
    "ratio_grid": "<= 0.3333",
    "ratio_warm_tpe_real": "<= 0.5",
    "ours_worst_seed": "<= 2",
    "useless_share": "<= 0.05",
    "useless_share_8": "<= 0.05",
    "target_evaluations": "<= 20",
    "target_bytes_over": "<= 0.03",
    "target_evaluations_real": "<= 20",
    "target_bytes_over_real": "<= 0.03",
}
_SEARCH_FIGURES = {
    **{f"ratio_{name}": f"our seconds over those of: {what}" for name, what in SEARCHERS.items() if name != "ours"},
    "ours_worst_seed": "our slowest seed's seconds over the median",
    "useless_share": "share of our trials after the first eight that failed or are below the floor, mean over seeds",
    "useless_share_whole": "the same, until it has found all that the table holds",
    **{f"seconds_{name}": f"seconds, the median over seeds: {what}" for name, what in SEARCHERS.items()},
    **{f"trials_{name}": f"trials, the median over seeds: {what}" for name, what in SEARCHERS.items()},
    **{f"reached_{name}": f"share of seeds that found it: {what}" for name, what in SEARCHERS.items()},
    "profile_seconds": "seconds of our profile, within our seconds",
    "profile_share": "their share of our seconds",
    "saved_by_prefixes": "share of the whole table's seconds that is saved by building shared steps once",
    "saved_by_prefixes_ours": "the same, of the seconds of our search",
    "saved_by_profile": "share of seconds_blind that the profile saves, its own seconds counted; below 0 it costs more",
    "seconds_blind": "seconds, the median over seeds: ours without a profile, harm taken for the bytes that are saved",
    "saved_by_racing": "share of segments that races save in another search, whose scores by segment are recorded",
    "saved_by_racing_at_most": "share of our seconds in which trials are translated that a race could end",
    "target_evaluations": "trials of our search for the smallest that meets a target, until it stops by itself",
    "target_evaluations_most": "the same, the slowest of all targets and seeds",
    "target_bytes_over": "share by which what it found is larger than the smallest that meets the target, the median",
    "target_bytes_over_most": "the same, the worst of all targets and seeds",
    "target_within": "share of targets and seeds of which that is at most 3 %",
    "target_evaluations_worst": "target_evaluations where the pair that keeps least has to meet the target",
    "target_evaluations_most_worst": "the same, the slowest of all targets and seeds",
    "target_bytes_over_worst": "target_bytes_over where the pair that keeps least has to meet the target, the median",
    "target_bytes_over_most_worst": "the same, the worst of all targets and seeds",
    "target_within_worst": "share of targets and seeds of which that is at most 3 %, for the pair that keeps least",
    "target_evaluations_frontier": "trials until our search, not told a target, had nearly the smallest that meets it",
}

SEARCH = Figures(
    title="Searches, replayed",
    note="Seconds of recorded trials, on a simulated clock, until a search has found 95 % of what the recorded table "
    "holds. `_real` is of the table of a model of half a billion parameters, the others of the shipped model; `_8` is "
    "with 8 trials at a time, the others with one.",
    known={
        f"{figure}{suffix}": (f"{what}{where}", SEARCH_MARKS.get(f"{figure}{suffix}", ""))
        for suffix, where in (
            ("", ""),
            ("_8", " (8 at a time)"),
            ("_real", " (real)"),
            ("_real_8", " (real, 8 at a time)"),
        )
        for figure, what in _SEARCH_FIGURES.items()
    },
)

"""Trains the captions model: a 5-million-parameter Llama that translates English captions to German, French and Czech.

    python models/captions/train.py --data MULTI30K_FOLDER --out OUTPUT_FOLDER

The folder holds Multi30k's `train`, `val` and `test_2016_flickr`, one sentence a line, plain or gzipped, named
`train.en`, `train.de.gz` and so on. Only `train` is learnt from; `val` picks the checkpoint; the test set is translated
once, at the end. The output folder then holds all that plain transformers needs, and `training.json`, the scores with
the conditions they were measured under.

What carries the small training set (87,000 pairs, of 29,000 images) to a useful model is regularisation, all of it set
in `Recipe`: dropout, whole layers skipped at random, label smoothing, and an average of the weights over the last
steps.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime
import gzip
import hashlib
import itertools
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import sacrebleu
import tokenizers
import torch
import transformers
from sacrebleu.metrics import BLEU, CHRF
from torch import Tensor, nn
from torch.nn import functional as F

SOURCE = "en"
TARGETS = ("de", "fr", "cs")
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "cs": "Czech"}
SPLITS = ("train", "val", "test_2016_flickr")
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
MAX_NEW_TOKENS = 96
"""Longest translation that is decoded, in tokens; the longest reference of val and test has 53."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which weights come out, but for the data and the hardware."""

    vocabulary: int = 8000
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    mlp_width: int = 640
    positions: int = 512

    epochs: int = 90
    batch_tokens: int = 49152
    """Padded tokens a batch, prompts included."""
    learning_rate: float = 3e-3
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises; it falls along a cosine to zero in the others."""
    weight_decay: float = 0.1
    beta2: float = 0.98
    clip: float = 1.0
    average: float = 0.998
    """Decay, a step, of the average of the weights; the average is what is scored and saved."""

    dropout: float = 0.15
    """Of the embeddings and of what each attention and each MLP adds to the residual stream."""
    attention_dropout: float = 0.1
    layer_drop: float = 0.05
    """Chance that a sentence skips a layer in training (stochastic depth, https://arxiv.org/abs/1603.09382)."""
    label_smoothing: float = 0.1

    evaluations: int = 8
    """How often, evenly over training, val is translated to pick the checkpoint."""
    seed: int = 1


Corpus = dict[str, dict[str, list[str]]]
"""Split, then language, to the sentences; line i of every language describes the same image."""


# Data -----------------------------------------------------------------------------------------------------------------


def read_lines(folder: Path, name: str) -> tuple[list[str], str]:
    """The stripped lines of `folder/name` or `folder/name.gz`, and the SHA-256 of its uncompressed bytes."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists():
        content = plain.read_bytes()
    elif packed.exists():
        content = gzip.decompress(packed.read_bytes())
    else:
        raise FileNotFoundError(f"neither {plain} nor {packed} exists: --data must name a folder with Multi30k's files")
    lines = content.decode("utf-8").rstrip("\n").split("\n")
    return [line.strip() for line in lines], hashlib.sha256(content).hexdigest()


def read_corpus(folder: Path, limit: int | None) -> tuple[Corpus, dict[str, str]]:
    """All splits and languages, each split cut to its first `limit` lines, and the checksum of each whole file."""
    corpus: Corpus = {}
    checksums: dict[str, str] = {}
    for split in SPLITS:
        corpus[split] = {}
        for language in LANGUAGES:
            lines, checksums[f"{split}.{language}"] = read_lines(folder, f"{split}.{language}")
            corpus[split][language] = lines[:limit]
        lengths = {language: len(lines) for language, lines in corpus[split].items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"{split} must have as many lines in each language, but has {lengths}")
    return corpus, checksums


def alma_prompt(text: str, target: str) -> str:
    """ALMA's prompt (https://github.com/fe1ixxu/ALMA), which the translation follows after one space."""
    source_name, target_name = LANGUAGES[SOURCE], LANGUAGES[target]
    return f"Translate this from {source_name} to {target_name}:\n{source_name}: {text}\n{target_name}:"


# Tokenizer ------------------------------------------------------------------------------------------------------------


def train_tokenizer(train: dict[str, list[str]], vocabulary: int) -> tokenizers.Tokenizer:
    """Byte-level BPE over the training sentences and the prompts; a call puts `<s>` in front."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Once for every sentence, so that each word of the prompt becomes one token.
    prompts = [alma_prompt(text, target) for target in TARGETS for text in train[SOURCE]]
    answers = [f" {text}" for target in TARGETS for text in train[target]]
    tokenizer.train_from_iterator(prompts + answers, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids without `<s>`."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: Path, positions: int) -> None:
    """Writes the two files from which transformers 4 and 5 alike load a `PreTrainedTokenizerFast`."""
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "padding_side": "left",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


# Batches --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Every training pair tokenised once: prompts and translations end to end in one long tensor on the device."""

    tokens: Tensor
    """Shape (all tokens,): `<s>` prompt translation `</s>`, pair after pair."""
    starts: Tensor
    prompts: Tensor
    lengths: Tensor
    """Shape (pairs,) each: where a pair starts, the tokens of its prompt, the tokens of the whole pair."""
    prompt_sizes: numpy.ndarray
    sizes: numpy.ndarray
    """The same two counts on the host, where batches are planned without waiting for the device."""


def encode_pairs(tokenizer: tokenizers.Tokenizer, train: dict[str, list[str]], device: torch.device) -> Encoded:
    """Tokenises all pairs, prompt and translation each on its own, so that a prompt's ids are those of inference."""
    rows: list[list[int]] = []
    prompt_sizes: list[int] = []
    for target in TARGETS:
        prompts = encode(tokenizer, [alma_prompt(text, target) for text in train[SOURCE]])
        answers = encode(tokenizer, [f" {text}" for text in train[target]])
        for prompt, answer in zip(prompts, answers, strict=True):
            prompt_sizes.append(1 + len(prompt))
            rows.append([BOS_ID, *prompt, *answer, EOS_ID])
    sizes = numpy.array([len(row) for row in rows])
    counts = numpy.array(prompt_sizes)
    flat = numpy.fromiter(itertools.chain.from_iterable(rows), dtype=numpy.int64, count=int(sizes.sum()))
    starts = numpy.cumsum(sizes) - sizes
    on_device = [torch.from_numpy(array).to(device) for array in (flat, starts, counts, sizes)]
    return Encoded(*on_device, prompt_sizes=counts, sizes=sizes)


def plan_batches(sizes: numpy.ndarray, batch_tokens: int, rng: numpy.random.Generator) -> list[numpy.ndarray]:
    """Each pair once, in batches of similar length and at most `batch_tokens` padded tokens, in random order."""
    order = numpy.argsort(sizes + rng.uniform(0, 2, len(sizes)))
    batches: list[numpy.ndarray] = []
    begin = longest = 0
    for end, size in enumerate(sizes[order]):
        longest = max(longest, int(size))
        if (end + 1 - begin) * longest > batch_tokens and end > begin:
            batches.append(order[begin:end])
            begin, longest = end, int(size)
    batches.append(order[begin:])
    return [batches[index] for index in rng.permutation(len(batches))]


def collate(data: Encoded, rows: numpy.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """One batch, put together on the device without a wait.

    Returns the ids, shape (pairs, padded length), padded on the right, so that causal attention needs no mask; the
    places of the flattened batch that predict a target token; and these tokens, shape (target tokens,) each.
    """
    device = data.tokens.device
    width = int(data.sizes[rows].max())
    total = int((data.sizes[rows] - data.prompt_sizes[rows]).sum())
    index = torch.from_numpy(rows).to(device, non_blocking=True)
    starts, prompts, lengths = data.starts[index], data.prompts[index], data.lengths[index]
    columns = torch.arange(width, device=device)
    places = (starts[:, None] + columns).clamp_(max=len(data.tokens) - 1)
    ids = torch.where(columns < lengths[:, None], data.tokens[places], PAD_ID)
    targets = lengths - prompts
    owner = torch.repeat_interleave(torch.arange(len(rows), device=device), targets, output_size=total)
    offset = torch.arange(total, device=device) - (targets.cumsum(0) - targets)[owner] + prompts[owner]
    return ids, owner * width + offset - 1, data.tokens[starts[owner] + offset]


# Model ----------------------------------------------------------------------------------------------------------------


def build_model(recipe: Recipe, vocabulary: int) -> transformers.LlamaForCausalLM:
    """An untrained model in float32, its generation settings greedy."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp_width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.width // recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        prompt_family="alma",
    )
    config._attn_implementation = "sdpa"
    model = transformers.LlamaForCausalLM(config)
    scale_start(model)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, pad_token_id=PAD_ID, bos_token_id=BOS_ID, eos_token_id=EOS_ID
    )
    return model


@torch.no_grad()
def scale_start(model: transformers.LlamaForCausalLM) -> None:
    """Makes embeddings larger and what the blocks add to them smaller, so that words are seen from the first step.

    transformers draws every matrix with a deviation of 0.02. Here embeddings get one over the root of the width (as the
    output layer, which they are too, they then give logits of deviation 1), and the last matrix of each block is
    divided by the root of their number, as in GPT-2.
    """
    nn.init.normal_(model.model.embed_tokens.weight, std=model.config.hidden_size**-0.5)
    for layer in model.model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight.mul_((2 * model.config.num_hidden_layers) ** -0.5)


def add_dropout(model: transformers.LlamaForCausalLM, recipe: Recipe) -> None:
    """Hooks on the modules drop embeddings, what each block adds to the residual stream, and whole layers."""

    def drop(module: nn.Module, _: object, output: Tensor) -> Tensor:
        return F.dropout(output, recipe.dropout, module.training)

    def drop_attention(module: nn.Module, _: object, output: tuple[Tensor, None]) -> tuple[Tensor, None]:
        return F.dropout(output[0], recipe.dropout, module.training), output[1]

    def skip(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training or not recipe.layer_drop:
            return output
        kept = F.dropout(output.new_ones(output.shape[0], 1, 1), recipe.layer_drop)
        return inputs[0] + (output - inputs[0]) * kept

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = recipe.attention_dropout
        layer.self_attn.register_forward_hook(drop_attention)
        layer.mlp.register_forward_hook(drop)
        layer.register_forward_hook(skip)


def target_loss(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The loss to minimise and the plain cross-entropy, both nats a target token.

    `hidden`, shape (tokens, width), are the states that predict `labels`.
    """
    log_p = F.log_softmax((hidden @ weight.t()).float(), dim=-1)
    entropy = -log_p.gather(1, labels[:, None]).mean()
    loss = (1 - smoothing) * entropy - smoothing * log_p.mean()
    return loss, entropy


def rounded_copy(model: transformers.LlamaForCausalLM, device: torch.device) -> transformers.LlamaForCausalLM:
    """The model as it will be saved: weights rounded to bfloat16; kept in float32, so that arithmetic is exact."""
    return copy.deepcopy(model).to(torch.bfloat16).to(device, torch.float32).eval()


# Scores ---------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def translate(
    model: transformers.LlamaForCausalLM, tokenizer: tokenizers.Tokenizer, prompts: Sequence[str], batch_size: int
) -> list[str]:
    """Greedy translations, in the prompts' order."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(prompts))]
    order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]))
    translations = [""] * len(encoded)
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        width = len(encoded[rows[0]])
        ids = torch.tensor([[PAD_ID] * (width - len(encoded[row])) + encoded[row] for row in rows], device=model.device)
        output = model.generate(ids, attention_mask=(ids != PAD_ID).long(), max_new_tokens=MAX_NEW_TOKENS)
        for row, answer in zip(rows, output[:, width:].tolist(), strict=True):
            translations[row] = tokenizer.decode(answer, skip_special_tokens=True).strip()
    return translations


def score(
    model: transformers.LlamaForCausalLM, tokenizer: tokenizers.Tokenizer, split: dict[str, list[str]]
) -> tuple[dict[str, float], dict[str, str]]:
    """BLEU and chrF of each pair, as `bleu_en_de`, with sacreBLEU's two signatures."""
    prompts = [alma_prompt(text, target) for target in TARGETS for text in split[SOURCE]]
    translations = translate(model, tokenizer, prompts, 4096 if model.device.type == "cuda" else 64)
    figures: dict[str, float] = {}
    signatures: dict[str, str] = {}
    for place, target in enumerate(TARGETS):
        count = len(split[target])
        hypotheses = translations[place * count : (place + 1) * count]
        for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
            figures[f"{name}_{SOURCE}_{target}"] = round(metric.corpus_score(hypotheses, [split[target]]).score, 2)
            signatures[name] = str(metric.get_signature())
    return figures, signatures


def mean_chrf(figures: dict[str, float]) -> float:
    """The number that a checkpoint is picked by."""
    return sum(figures[f"chrf_{SOURCE}_{target}"] for target in TARGETS) / len(TARGETS)


# Training -------------------------------------------------------------------------------------------------------------


def rate_at(progress: float, warmup: float) -> float:
    """Share of the full learning rate once the share `progress` of training is done: a line up, a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def make_optimizer(model: nn.Module, recipe: Recipe, fused: bool) -> torch.optim.Optimizer:
    """AdamW; norms' gains are not decayed."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2), fused=fused)


@dataclass
class Trainer:
    """The model in training, the average of its weights, and how far it is."""

    recipe: Recipe
    model: transformers.LlamaForCausalLM
    averaged: transformers.LlamaForCausalLM
    optimizer: torch.optim.Optimizer
    loss: Callable[..., tuple[Tensor, Tensor]]
    step: int = 0

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        self.averages = list(self.averaged.parameters())

    @classmethod
    def create(cls, recipe: Recipe, vocabulary: int, device: torch.device, compiled: bool) -> Trainer:
        """A fresh model on `device`; `compiled` fuses each layer's and the loss's small GPU kernels."""
        model = build_model(recipe, vocabulary).to(device)
        averaged = copy.deepcopy(model).requires_grad_(False).eval()
        add_dropout(model, recipe)
        loss = target_loss
        if compiled:
            # cuDNN's attention plans anew for each new shape of a batch, flash attention does not.
            torch.backends.cuda.enable_cudnn_sdp(False)
            loss = torch.compile(target_loss, dynamic=True)
            for layer in model.model.layers:
                layer.compile(dynamic=True)
        return cls(recipe, model.train(), averaged, make_optimizer(model, recipe, device.type == "cuda"), loss)

    def train_on(self, data: Encoded, rows: numpy.ndarray, progress: float) -> Tensor:
        """One step; returns the cross-entropy in nats a target token, still on the device."""
        recipe, device = self.recipe, self.model.device
        ids, places, labels = collate(data, rows)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate_at(progress, recipe.warmup)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            states = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
            hidden = states.flatten(0, 1).index_select(0, places)
            loss, entropy = self.loss(hidden, self.model.lm_head.weight, labels, recipe.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.update_average()
        return entropy.detach()

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the average towards the weights; quickly at first, so that the random start is soon forgotten."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)


@dataclass
class Clock:
    """Seconds since the start, for progress and for the report."""

    started: float = dataclasses.field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return time.monotonic() - self.started


def run_epochs(
    trainer: Trainer, tokenizer: tokenizers.Tokenizer, corpus: Corpus, device: torch.device
) -> Iterator[tuple[int, float, int]]:
    """Trains epoch after epoch; yields its number (from 1), its mean cross-entropy and the tokens it went through."""
    recipe = trainer.recipe
    rng = numpy.random.default_rng(recipe.seed)
    data = encode_pairs(tokenizer, corpus["train"], device)
    for epoch in range(recipe.epochs):
        batches = plan_batches(data.sizes, recipe.batch_tokens, rng)
        losses = [
            trainer.train_on(data, rows, (epoch + number / len(batches)) / recipe.epochs)
            for number, rows in enumerate(batches)
        ]
        yield epoch + 1, torch.stack(losses).mean().item(), int(data.sizes.sum())


def train(
    recipe: Recipe, corpus: Corpus, tokenizer: tokenizers.Tokenizer, device: torch.device, compiled: bool
) -> tuple[transformers.LlamaForCausalLM, dict[str, float]]:
    """The checkpoint with the best val chrF, rounded to bfloat16, and figures of the training itself."""
    trainer = Trainer.create(recipe, tokenizer.get_vocab_size(), device, compiled)
    clock, mark, tokens = Clock(), 0.0, 0
    best, best_chrf, best_epoch, chrf = trainer.averaged, -1.0, 0, float("nan")
    due = {math.ceil(recipe.epochs * (turn + 1) / recipe.evaluations) for turn in range(recipe.evaluations)}
    for epoch, loss, count in run_epochs(trainer, tokenizer, corpus, device):
        tokens += count
        speed, mark = count / (clock.seconds() - mark), clock.seconds()
        if epoch in due:
            candidate = rounded_copy(trainer.averaged, device)
            chrf = mean_chrf(score(candidate, tokenizer, corpus["val"])[0])
            if chrf > best_chrf:
                best, best_chrf, best_epoch = candidate, chrf, epoch
            mark = clock.seconds()
        left = clock.seconds() / epoch * (recipe.epochs - epoch)
        print(
            f"epoch {epoch}/{recipe.epochs}  loss {loss:.3f}  val chrF {chrf:.2f}  {speed:,.0f} tokens/s  "
            f"{left:.0f} s left",
            flush=True,
        )
    figures = {"training_seconds": round(clock.seconds(), 1), "best_epoch": best_epoch, "steps": trainer.step}
    return best, figures | {"training_tokens": tokens, "parameters": best.num_parameters()}


# Output ---------------------------------------------------------------------------------------------------------------


def save_model(model: transformers.LlamaForCausalLM, folder: Path) -> None:
    """bfloat16 safetensors, config.json and generation_config.json."""
    model = copy.deepcopy(model).to("cpu", torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)


def conditions(
    recipe: Recipe, device: torch.device, checksums: dict[str, str], signatures: dict[str, str]
) -> dict[str, object]:
    """All that the figures depend on."""
    modules = (torch, transformers, tokenizers, sacrebleu, numpy)
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()} | {m.__name__: str(m.__version__) for m in modules},
        "data_sha256": checksums,
        "seed": recipe.seed,
        "date": datetime.date.today().isoformat(),
        "decoding": f"greedy, at most {MAX_NEW_TOKENS} new tokens, bfloat16 weights in float32 arithmetic",
        "signatures": signatures,
        "recipe": dataclasses.asdict(recipe),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; the recipe itself is changed in the code, in one place."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with Multi30k's files, plain or .gz")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="passes over the data (default %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="(default %(default)s)")
    parser.add_argument("--limit", type=int, help="use only the first LIMIT lines of each split, for a smoke test")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default %(default)s)"
    )
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile, which only GPUs use")
    return parser.parse_args(arguments)


def command_line(options: argparse.Namespace) -> str:
    """The command that was run, with DATA and OUT in place of this machine's folders."""
    command = "python models/captions/train.py --data DATA --out OUT"
    for name in ("epochs", "seed"):
        if getattr(options, name) != getattr(Recipe, name):
            command += f" --{name} {getattr(options, name)}"
    command += f" --limit {options.limit}" if options.limit else ""
    return command + (" --no-compile" if options.no_compile else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, scores, saves."""
    clock, options = Clock(), parse_arguments(arguments)
    recipe = dataclasses.replace(Recipe(), epochs=options.epochs, seed=options.seed)
    device = torch.device(options.device)
    torch.manual_seed(recipe.seed)
    corpus, checksums = read_corpus(options.data, options.limit)
    tokenizer = train_tokenizer(corpus["train"], recipe.vocabulary)
    print(f"{len(corpus['train'][SOURCE]):,} lines, {tokenizer.get_vocab_size():,} token ids, on {device}", flush=True)

    compiled = device.type == "cuda" and not options.no_compile
    model, figures = train(recipe, corpus, tokenizer, device, compiled)
    signatures: dict[str, str] = {}
    for split in SPLITS[1:]:
        scores, signatures = score(model, tokenizer, corpus[split])
        figures |= {f"{split}_{name}": value for name, value in scores.items()}

    options.out.mkdir(parents=True, exist_ok=True)
    save_model(model, options.out)
    save_tokenizer(tokenizer, options.out, recipe.positions)
    figures["seconds"] = round(clock.seconds(), 1)
    report = {
        "figures": figures,
        "conditions": conditions(recipe, device, checksums, signatures),
        "command": command_line(options),
    }
    (options.out / "training.json").write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

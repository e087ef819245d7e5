"""Load the smallest model that a run has kept, and translate a sentence with it: load_a_kept_model.py RUN."""

import sys

import mtpareto


def main(folder: str) -> None:
    run = mtpareto.load_run(folder)
    smallest = min(
        (point for point in run.trials if point.record.number in run.artefacts), key=lambda point: point.bytes
    )
    kept = run.artefacts[smallest.record.number]
    model, tokenizer = mtpareto.load_model(kept, "cpu"), mtpareto.load_tokenizer(kept)
    prompt = "Translate this from English to German:\nEnglish: A dog runs across the grass.\nGerman:"
    ids = tokenizer(prompt, return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=40)[0, ids["input_ids"].shape[1] :]
    print(f"{smallest.label}: {tokenizer.decode(made, skip_special_tokens=True).splitlines()[0].strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])

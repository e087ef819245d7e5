"""How MLflow's UI shows the experiment: as model training, with a description that says how to read it."""

from __future__ import annotations

from typing import Any

# Decides which pages the UI offers for the experiment, and what it calls its models; its values are the UI's own.
KIND_TAG = "mlflow.experimentKind"
MODEL_TRAINING = "custom_model_development"
# What the UI writes where nobody has chosen.
GUESSED = ("", "genai_development_inferred", "custom_model_development_inferred", "no_inferred_type")
# What MLflow shows as a description, in Markdown.
DESCRIPTION_TAG = "mlflow.note.content"
TITLE = "# Compressed translation models"
# The page shows the first line alone until somebody opens the rest.
DESCRIPTION = f"""{TITLE}: how to read them

Each study of mtpareto is a parent run, with the report, the table and the settings among its artifacts. Its child runs
are the trials: one compressed model each, translated and scored. `trial 000` is the uncompressed model.

- **The frontier:** filter by `metrics.on_frontier = 1`, and by `tags.study = 'NAME'` for one study. `rank` counts from
  the frontier's smallest point. `hypervolume_share` is what a point alone adds to it, over log bytes and kept quality.
- **The picture:** each study has a view of its name under "Views". Its chart view has a scatter chart with `bytes_mb`
  (MB on disk, all files) as x and `chrf`, or `comet`, as y. Runs on the frontier are blue, those not told apart from
  one of it light blue, those kept off it orange, and those that a smaller one beats grey. `chrf_kept_percent` is the
  quality as a percentage of the uncompressed model's.
- **The data:** `chrf` is of the data that the search selects on. Names that begin with `test_` are of held-out data, in
  runs of their own, marked `[test]`.
- **How sure:** `chrf_difference.low` and `chrf_difference.high` bound the difference to the uncompressed model (95 %,
  paired). A run's description says where its trial stands and why; the tags `tie`, `beaten_by` and `kept_off` are for
  filters.
- **The study over time:** the parent's `hypervolume`, `ratio_at_99` (of the smallest that keeps 99 % on these data) and
  `gpu_hours` (`worker_hours` on a CPU), by finished trials.
- **The models:** a study has a registered model of its name, a version for each model that was kept, with the aliases
  `best-quality`, `knee`, `smallest-at-99` and `smallest`. They go by held-out data where there are some. The parent has
  their numbers: `knee.chrf`, `knee.test_chrf`, `knee.ratio`.

`mtpareto ui FOLDER` opens this at a study. Where another server shows a run among pages of GenAI, choose "Model
training" at the top left: the browser remembers it.

MLflow holds a copy: the run's folder has the ledger, from which `mtpareto mirror FOLDER` writes all of this anew.
"""


def introduce(client: Any, experiment: Any) -> None:
    """Give the experiment its kind and its description where nobody gave it others. client: an MlflowClient;
    experiment: MLflow's entity."""
    tags = experiment.tags
    if tags.get(KIND_TAG, "") in GUESSED:
        client.set_experiment_tag(experiment.experiment_id, KIND_TAG, MODEL_TRAINING)
    said = tags.get(DESCRIPTION_TAG, "")
    if said != DESCRIPTION and (not said or said.startswith(TITLE)):
        client.set_experiment_tag(experiment.experiment_id, DESCRIPTION_TAG, DESCRIPTION)

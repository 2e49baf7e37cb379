"""Capability kept, by lm-eval: agreement pairs as a local task, under an attached steer.

python -m experiments.paper.lm_eval_pairs [--model bundled] [--steer sentiment]

Needs `pip install lm-eval`; no network. Its accuracy beside our own scoring of the same pairs, at
each strength: they must be the same number.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import lmsteer
from experiments.input_vs_output.stability import agreement_pairs
from lmsteer.metrics.sentences import text_losses
from lmsteer.steer.calibration import StrengthWarning

TASK = """task: agreement_pairs
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {data}
output_type: multiple_choice
validation_split: validation
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[right, wrong]}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--steer", default="sentiment")
    args = parser.parse_args()
    warnings.simplefilter("ignore", StrengthWarning)
    model, tokenizer = lmsteer.load_model(args.model)
    steer = lmsteer.load_steer(args.steer, model)
    pairs = agreement_pairs()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pairs.jsonl"
        data.write_text("".join(json.dumps({"right": a, "wrong": b}) + "\n" for a, b in pairs))
        (Path(folder) / "pairs.yaml").write_text(TASK.format(data=data))
        tasks = TaskManager(include_path=folder, include_defaults=False)
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64)
        for strength in (0.0, 2.0, 5.0, -2.0, -5.0):
            with lmsteer.attach(model, {steer: strength}):
                found = lm_eval.simple_evaluate(
                    wrapped, tasks=["agreement_pairs"], task_manager=tasks, bootstrap_iters=0
                )
                ours = [
                    text_losses(model, tokenizer, [pair[side] for pair in pairs]) for side in (0, 1)
                ]
            theirs = found["results"]["agreement_pairs"]["acc,none"]
            right = [a.sum() < b.sum() for a, b in zip(*ours, strict=True)]
            print(f"{strength:+g}  lm-eval {theirs:.4f}  lmsteer {sum(right) / len(right):.4f}")


if __name__ == "__main__":
    main()

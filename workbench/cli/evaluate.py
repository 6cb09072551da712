"""The verb ``evaluate``: finished runs and their base on held-out pairs."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from workbench.cli.common import count, lasting, new_run, number, work_on
from workbench.cli.terminal import table
from workbench.errors import UserError
from workbench.runs import store

FIGURES = (
    ("name", "preference_accuracy", "reward_margin", "win_rate", "win_rate_low", "win_rate_high", "win_rate_lc"),
    ("name", "coherence", "perplexity_base", "repetition", "distinct_2", "unfinished", "mean_tokens"),
    ("name", "kl_from_base", "perplexity_chosen", "text_perplexity", "text_ratio", "facts_right", "facts_gained"),
)
OPTIONS = ("limit", "seed", "judge", "judge_price", "judge_key_env", "text", "tasks", "task_limit")


def add_verbs(verb) -> None:
    """``evaluate``."""
    it = verb("evaluate", "Judge runs and their base on held-out pairs.", evaluate, show_evaluate)
    it.add_argument("runs", metavar="RUN", nargs="+", help="finished runs of one base model, baselines too")
    it.add_argument("--pairs", help="pairs the runs have not seen (for a demo run: its test pairs)")
    it.add_argument("--limit", type=count, metavar="N", help="judge the first N pairs only")
    it.add_argument("--seed", type=int, metavar="N")
    it.add_argument(
        "--judge",
        metavar="J",
        help="auto (the pairs' own oracle, else a probe), probe, none, votes, reward:FOLDER_OR_ID, endpoint:URL#MODEL",
    )
    it.add_argument(
        "--judge-price", type=number, nargs=2, metavar=("IN", "OUT"), help="of a million tokens read and written"
    )
    it.add_argument("--judge-key-env", metavar="NAME", help="the variable with the endpoint's key (OPENAI_API_KEY)")
    it.add_argument("--text", metavar="F", help="held-out text whose perplexity must not suffer")
    it.add_argument(
        "--tasks", metavar="F", help="task files of lm-evaluation-harness: a YAML file, or a folder of them"
    )
    it.add_argument("--task-limit", type=count, metavar="N", help="the first N examples of each task only")
    it.add_argument("--out", metavar="DIR", help="the folder for the figures (default: one among the runs)")


def evaluate(options: Namespace) -> dict[str, Any]:
    """What ``evaluate --json`` prints."""
    from workbench.runs.loading import need_speaker

    found = [store.find_run(name) for name in options.runs]
    for run in found:
        need_speaker(run)
    pairs = options.pairs or _test_pairs(found[0].config()["pairs"])
    config = {"runs": [str(run.path) for run in found], "pairs": lasting(pairs)}
    config |= {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    config |= {name: lasting(config[name]) for name in ("text", "tasks") if name in config}
    if config.get("judge", "").startswith("reward:"):
        config["judge"] = "reward:" + lasting(config["judge"].removeprefix("reward:"))
    return work_on(new_run("evaluate", config, options.out), fresh=True)


def _test_pairs(source: str) -> str:
    if source.partition(":")[0].partition("/")[0] != "demo":
        raise UserError("Say which pairs to judge by: --pairs with pairs that the run has not seen.")
    return f"{source.partition(':')[0]}:test"


def show_evaluate(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    rows = result["models"]
    parts = [table(rows, [key for key in keys if any(row.get(key) is not None for row in rows)]) for keys in FIGURES]
    judge = f"Judge: {result['judge']}. {result['judge_about']}" if result["judge"] else "No judge."
    parts.append("\n".join([judge, *([_use(result["judge_use"])] if result["judge_use"] else [])]))
    held = [f"{row['name']}: {row['capability']}" for row in rows if row.get("capability")]
    parts.append("\n".join([f"Held-out text: {result['text']}.", *held]))
    if apart := [row for row in result["differences"] if row.get("win_rate") is not None]:
        parts.append(table(apart, ("name", "than", "win_rate", "win_rate_low", "win_rate_high")))
    for name, tasks in result["tasks"].items():
        told = [
            {"task": task, "metric": m} | values for task, metrics in tasks.items() for m, values in metrics.items()
        ]
        parts.append(f"{name}\n{table(told, ('task', 'metric', 'value', 'low', 'high'))}")
    return "\n\n".join(parts)


def _use(use: dict[str, Any]) -> str:
    cost = "cost not known (give --judge-price)" if use["cost"] is None else f"cost {use['cost']:.4f}"
    return (
        f"{use['asked']} questions asked, {use['cached']} found in the cache, {use['broken']} broken replies; "
        f"{use['turned']} of {use['compared']} verdicts turned with the order; "
        f"{use['tokens_in']} tokens read and {use['tokens_out']} written, {cost}."
    )

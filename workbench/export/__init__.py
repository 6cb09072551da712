"""Taking a run away: its adapter or the merged model, each with a model card, and a report that opens offline."""

from __future__ import annotations

import json
import os
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.rahf.results import read_result
from workbench.stamp import check

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_FIGURES = (
    ("preferred", "Preferred answers, by the oracle"),
    ("win_rate", "Win rate against the base"),
    ("win_rate_lc", "Win rate at equal length"),
    ("preference_accuracy", "Preference accuracy"),
    ("coherence", "Coherent answers"),
    ("facts_right", "Right facts"),
    ("kl_from_base", "KL from the base, nats an answer"),
)


def export(
    folder: Path,
    to: Path,
    *,
    merge: bool = False,
    push: str | None = None,
    token: str | None = None,
    private: bool = True,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Write a run's adapter (or, with ``merge``, base and adapter as one model in safetensors) with its model card,
    settings, figures and report to the empty folder ``to``; with ``push``, also to that repository on the Hub. Of a
    run that was stopped and kept it is the adapter of the steps done, and the card says so.

    ``token`` is used for that one upload and neither kept nor logged. Returns path, files and bytes. Raises UserError.
    """
    result = read_result(folder)
    _need_own_adapter(folder, result)
    if push is not None and not _HUB_ID.fullmatch(push):
        raise UserError(f"{push[:80]!r} is no repository on the Hub: write it as name/repository.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already and is not an empty folder: choose another one.")
    to.mkdir(parents=True, exist_ok=True)
    try:
        if merge:
            _merge(folder, to, result, progress)
        else:
            progress("save", message="Copying the adapter")
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copyfile(folder / "adapter" / name, to / name)
        (to / "README.md").write_text(model_card(folder, merged=merge), encoding="utf-8")
        (to / "report.html").write_text(report(folder), encoding="utf-8")
        (to / "result.json").write_text(json.dumps(_shareable(result), indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"The export could not be written ({error.strerror or error}): free space or choose a folder."
        ) from error
    if push:
        _push(to, push, token, private, progress)
    files = sorted(path for path in to.rglob("*") if path.is_file())
    return {
        "path": str(to),
        "files": [str(path.relative_to(to)) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
    }


def _need_own_adapter(folder: Path, result: dict[str, Any]) -> None:
    """Raises UserError if the run's adapter is damaged, or is that of another run."""
    from workbench.rahf.adapters import read_weights

    about = read_weights(folder / "adapter")[1]
    own = {"model": result.get("model_fingerprint"), "pairs": result.get("pairs_fingerprint")}
    check(about, own, f"the adapter of run {folder.name}")
    if (about.get("partial") is None) != (result.get("partial") is None):
        raise UserError(
            f"The adapter of run {folder.name} is not the one that it ended with: resume or repeat the run."
        )


def _merge(folder: Path, to: Path, result: dict[str, Any], progress: Progress) -> None:
    from workbench.models import load_model
    from workbench.rahf.adapters import load_adapter
    from workbench.rahf.results import number_format

    bits = result["config"].get("quantization", "none")
    if bits != "none":
        raise UserError(
            f"The base of this run is held in {bits[0]} bits, and an adapter cannot be merged into such weights exactly: "
            "export the adapter alone."
        )
    progress("load", message="Loading the model")
    dtype = number_format(folder, result["config"]["dtype"])
    loaded = load_model(result["config"]["model"], device="cpu", dtype=dtype)
    load_adapter(loaded, folder / "adapter", "aligned")
    progress("save", message="Merging and saving")
    merged = loaded.model.merge_and_unload(adapter_names=["aligned"])
    merged.save_pretrained(to, safe_serialization=True)
    loaded.tokenizer.save_pretrained(to)


def _push(folder: Path, repository: str, token: str | None, private: bool, progress: Progress) -> None:
    from huggingface_hub import HfApi

    progress("save", message=f"Pushing to {repository}")
    try:
        api = HfApi(token=token or os.environ.get("HF_TOKEN"))
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder))
    except Exception as error:  # the client's and the network's errors are many; none may show the token
        reason = " ".join(str(error).split())[:160]
        reason = reason.replace(token, "…") if token else reason
        raise UserError(
            f"Pushing to {repository} failed ({reason}): check the name, the token and the network."
        ) from None


def _shareable(result: dict[str, Any]) -> dict[str, Any]:
    """The result without this machine's own paths."""
    config = result["config"] | {name: _named(result["config"][name]) for name in ("model", "pairs")}
    return {key: value for key, value in result.items() if key != "adapter"} | {"config": config}


def _named(source: str) -> str:
    """A Hub id or a bundled name as it is; of a file or folder only its own name."""
    return Path(source).name if os.path.isabs(source) or Path(source).exists() else source


def _figure(figures: dict[str, Any], name: str) -> str | None:
    value = figures.get(name)
    if value is None:
        return None
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None and high is not None else "")


def figure_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, base, aligned) of the held-out figures that were measured, with 95% intervals; none of a run that was
    stopped before it was judged."""
    if not result.get("held_out"):
        return []
    base, aligned = result["held_out"]["base"], result["held_out"]["aligned"]
    return [
        (title, _figure(base, name) or "", _figure(aligned, name) or "")
        for name, title in _FIGURES
        if _figure(aligned, name) is not None
    ]


def setting_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, value) of how the run was made."""
    config, strength = result["config"], result["relative_strength"]
    mean = sum(strength.values()) / len(strength)
    each = ", ".join(f"{block}: {value:.2f}" for block, value in strength.items())
    return [
        ("Method", {"scit": "RAHF-SCIT", "dual": "RAHF-Dual"}.get(result["method"], result["method"])),
        ("Base model", _named(config["model"])),
        ("Pairs", _named(config["pairs"])),
        (
            "Pairs for step 1 / steps 2-3 / held out",
            " / ".join(str(result["pairs"][k]) for k in ("instruct", "fit", "held_out")),
        ),
        ("Blocks", f"{', '.join(map(str, result['layers']))} of 0 to {result['n_blocks'] - 1}"),
        ("Alpha", f"{result['alpha']:g}"),
        ("Relative strength", f"{mean:.2f} (block {each})"),
        ("Steps, batch, rate of step 3", f"{_steps(result)}, {config['align_batch']}, {config['align_rate']:g}"),
        ("LoRA rank and alpha", f"{config['lora_rank']}, {config['lora_alpha']}"),
        ("Seed", str(config["seed"])),
        ("Fingerprints of model and pairs", f"{result.get('model_fingerprint')}, {result.get('pairs_fingerprint')}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items())),
    ]


def _steps(result: dict[str, Any]) -> str:
    partial = result.get("partial")
    return f"{partial['steps']} of {partial['of']}" if partial else str(result["steps"])


def ended_early(result: dict[str, Any]) -> str:
    """A sentence on why step 3 has fewer steps than it was to have; empty if it has them all."""
    if partial := result.get("partial"):
        return f"Partial: this is the adapter of {partial['steps']} of {partial['of']} steps, kept when the run was stopped."
    return str(result.get("collapse") or "")


def judged_on(result: dict[str, Any]) -> str:
    """What the held-out figures were measured on, as a sentence."""
    if not result.get("held_out"):
        return "None: the run was stopped before it was judged. The command evaluate judges it as it is."
    judge = result["held_out"]["aligned"].get("judge")
    return f"On {result['pairs']['held_out']} pairs that no training step saw, with 95% intervals. " + (
        f"Answers are judged by {judge}." if judge else "No judge was available, so there is no win rate."
    )


def model_card(folder: Path, merged: bool = False) -> str:
    """The model card of a run that has finished or was kept, as Markdown with the Hub's front matter. Raises UserError."""
    result = read_result(folder)
    base = _named(result["config"]["model"])
    front = ["---", f"library_name: {'transformers' if merged else 'peft'}", "tags:", "- rahf", "- alignment"]
    if "/" in base:
        front.insert(2, f"base_model: {base}")
    early, rows = ended_early(result), figure_rows(result)
    lines = [
        *front,
        "---",
        "",
        f"# {folder.name}",
        "",
        f"{'A merged model' if merged else 'A LoRA adapter'} aligned with preference pairs by representation alignment "
        f"(RAHF, arXiv 2312.15997) from {base}. The pairs: {_named(result['config']['pairs'])}.",
        "",
        *([f"**{early}**", ""] if early else []),
        "## Held-out results",
        "",
        judged_on(result),
        "",
        *(["| figure | base | aligned |", "| --- | --- | --- |"] if rows else []),
        *(f"| {title} | {old} | {new} |" for title, old, new in rows),
        *([""] if rows else []),
        "## How it was made",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in setting_rows(result)),
        "",
        "## Limits",
        "",
        "The figures hold for prompts like the held-out ones. Nothing is known about other languages, tasks or longer talks.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def read_samples(folder: Path, count: int = 50) -> list[dict[str, Any]]:
    """The first side-by-side answers of a run: prompt, base, aligned."""
    try:
        with open(folder / "samples.jsonl", encoding="utf-8") as file:
            return [json.loads(line) for _, line in zip(range(count), file, strict=False)]
    except (OSError, ValueError):
        return []


def report(folder: Path) -> str:
    """One HTML page without outside parts: figures, settings and side-by-side answers. Raises UserError."""
    result = read_result(folder)

    def table(head: tuple[str, ...], rows) -> str:
        cells = "".join(f"<th>{escape(title)}</th>" for title in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"

    figures, early = figure_rows(result), ended_early(result)
    samples = [(row["prompt"], row["base"], row["aligned"]) for row in read_samples(folder)]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(folder.name)}</title>
<meta name="viewport" content="width=device-width"><style>
:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}}td,th{{text-align:left;vertical-align:top;
padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8886;overflow-wrap:anywhere}}th{{font-weight:400;opacity:.7}}</style>
<h1>{escape(folder.name)}</h1>{f"<p><strong>{escape(early)}</strong></p>" if early else ""}
<h2>Held-out results</h2><p>{escape(judged_on(result))}</p>
{table(("Figure", "Base", "Aligned"), figures) if figures else ""}
<h2>How it was made</h2>{table(("Setting", "Value"), setting_rows(result))}
{"<h2>Answers side by side</h2><p>Same prompt, same seed.</p>" if samples else ""}
{table(("Prompt", "Base", "Aligned"), samples) if samples else ""}</html>
"""

"""What step 5 says: the rows to take away, the commands that repeat a run, and its model card, from a finished run."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.jsonfile import read_json
from workbench.runs.names import listed
from workbench.ui import align_view, charts, context, making, quota, votes

MADE = ("merged", "gguf")  # what takes a while, is made once, and then lies in the run's folder
RESULTS = (  # title, key, digits
    ("Preferred answers", "preferred", 2),
    ("Win rate against base", "win_rate", 2),
    ("Win rate at equal length", "win_rate_lc", 2),
    ("Preference accuracy", "preference_accuracy", 2),
    ("Coherence", "coherence", 2),
    ("Right facts", "facts_right", 2),
    ("KL from base, nats", "kl_from_base", 2),
)


def size_of(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder (0, 0 if it is not there)."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return sum(path.stat().st_size for path in files), len(files)


def size_text(size: int, count: int) -> str:
    """``0.6 MB, 3 files``; empty for nothing."""
    return f"{charts.amount(size)}, {count} file{'s' if count != 1 else ''}" if count else ""


def result_of(run: Any, status: dict[str, Any]) -> dict[str, Any]:
    """What the run chose and measured; of one that was stopped and kept, what it had chosen."""
    from workbench.rahf.results import read_result

    return status.get("result") or read_result(run.path)


def about(status: dict[str, Any]) -> str:
    """The line below the heading: that everything can be checked, or that this is no whole run."""
    if status["state"] != "finished" and (partial := status.get("partial")):
        return (
            f"Stopped and kept: the adapter of {partial['steps']} of {partial['of']} steps, not judged on held-out "
            "pairs. Every file says so. Resume the run in step 3 for a whole one."
        )
    return "Every file carries the settings and the held-out numbers, so that the result can be checked and repeated."


def made_of(run: Any, kind: str) -> Path | None:
    """The folder of what was made of a run ("merged", "gguf"), None without one or if the adapter has changed since."""
    made = read_json(run.path / "exports" / f"{kind}.json") or {}
    folder = run.path / "exports" / kind
    return folder if made.get("adapter") == adapter_mark(run) and (folder / "README.md").exists() else None


def adapter_mark(run: Any) -> int | None:
    """What tells the run's adapter from the one it had before; None if it has none."""
    try:
        return (run.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    except OSError:
        return None


def takes(run: Any, status: dict[str, Any], visitor: str) -> dict[str, dict[str, Any]]:
    """The rows: what each thing is, for whom, and how big it is where it lies on disk already; ``off`` says why a thing
    cannot be had."""
    result = result_of(run, status)
    config = run.config() | (result.get("config") or {})
    partial = result.get("partial")
    kept = f" of {partial['steps']} of {partial['of']} steps" if partial else ""
    top = f", for blocks 0 to {max(result['layers'])}" if result.get("layers") else ""
    code = {"text": "PeftModel.from_pretrained", "as": "mono"}
    rows = {
        "adapter": (
            "box",
            "Adapter",
            [f"A plain PEFT LoRA{kept}, rank {config.get('lora_rank')}{top}. Loads with ", code, "."],
            size_text(*size_of(run.adapter)),
        ),
        "merged": (
            "page",
            "Merged model",
            "Base and adapter in one: loads like any model, answers as the aligned side does.",
            "",
        ),
        "gguf": ("page", "GGUF", "The merged model in one file, for llama.cpp and what builds on it.", ""),
        "vectors": (
            "next",
            "Control vectors",
            "The run’s shift in each block, for steering the base: safetensors, and GGUF where llama.cpp can take it.",
            size_text(quota.bytes_of(run.path / "steering.safetensors"), 1),
        ),
        "report": (
            "report",
            "Report",
            "One HTML page: figures that answer, training, answers by look. Opens offline.",
            "",
        ),
        "notebook": (
            "again",
            "Notebook",
            "A script and notebooks that repeat the run with public packages, its pairs beside them.",
            "",
        ),
        "pairs": _pairs_row(run, result, visitor),
    }
    off = _off(run, config, result)
    return {
        name: {"icon": icon, "title": title, "text": text, "size": size}
        | _making(run, name)
        | ({"off": off[name]} if name in off else {})
        for name, (icon, title, text, size) in rows.items()
    }


def _pairs_row(run: Any, result: dict[str, Any], visitor: str) -> tuple[str, str, str, str]:
    cast = len(votes.votes_of(run.path, visitor))
    pairs = result.get("pairs") or {}
    count = sum(pairs.values()) if isinstance(pairs, dict) else 0
    voted = f", and your {cast} blind vote{'s' if cast != 1 else ''}" if cast else ""
    text = f"The {count or ''} clean pairs with their split{voted}, as JSONL.".replace("  ", " ")
    return "rows", "Pairs and votes", text, f"{count} pairs" if count else ""


def _off(run: Any, config: dict[str, Any], result: dict[str, Any]) -> dict[str, str]:
    """Why things cannot be had of this run, by their name."""
    found = {}
    if config.get("quantization", "none") != "none":
        found["merged"] = "The base is held in few bits: an adapter cannot be merged into it exactly."
        found["gguf"] = found["merged"]
    elif find_spec("gguf") is None:
        found["gguf"] = "Needs the package gguf on the server: pip install gguf."
    if result.get("method") == "steering":
        found |= dict.fromkeys(("adapter", "merged", "gguf"), "Steering trains nothing, so there is no adapter.")
    if not (run.path / "steering.safetensors").exists():
        found["vectors"] = "This run’s method moves no states, so there are none."
    if result.get("method") not in ("scit", "dual"):
        found["notebook"] = "The script repeats RAHF (SCIT, Dual); this run’s config.yaml repeats it from the terminal."
    return found


def _making(run: Any, kind: str) -> dict[str, Any]:
    """What a row says beyond its text, of a thing that takes a while to make."""
    if kind not in MADE:
        return {}
    if (now := making.look(run.id, kind)) is not None and now.working:
        return {"size": now.said(), "share": now.step / now.total if now.total else None, "busy": True}
    folder = made_of(run, kind)
    if folder is not None:
        return {"size": size_text(*size_of(folder))}
    return {"size": "made on demand"} | ({"trouble": now.error} if now is not None and now.error else {})


def commands(run: Any, status: dict[str, Any]) -> dict[str, str]:
    """The run from a terminal, and its adapter from Python."""
    result = result_of(run, status)
    config = run.config() | (result.get("config") or {})
    pairs = str(config.get("pairs"))
    shown = pairs if not Path(pairs).is_absolute() else Path(pairs).name
    layers = ",".join(str(block) for block in result.get("layers") or config.get("layers") or []) or "auto"
    alpha = result.get("alpha", config.get("alpha"))
    q, model = shlex.quote, str(config.get("model"))
    name = q(f"runs/{context.run_name(status)}")
    align = (
        f"python -m workbench align --model {q(model)} --pairs {q(shown)} \\\n"
        f"    --method {q(str(config.get('method')))} --layers {layers} --alpha {alpha if alpha is not None else 'auto'} \\\n"
        f"    --foundation {q(str(config.get('foundation')))} --out {name}"
    )
    test = f"{pairs}:test" if pairs.startswith("demo") and ":" not in pairs else "PAIRS-IT-HAS-NOT-SEEN"
    lines = [align, f"python -m workbench evaluate {name} --pairs {q(test)}"]
    terminal = "\n".join([*lines, f"python -m workbench export {name} --to out/ --merge"])
    model = "assets/model" if model == "demo" else model
    python = (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({model!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model!r})\n"
        'model = PeftModel.from_pretrained(base, "adapter")  # the unpacked download'
    )
    return {"terminal": terminal, "python": python}


def card(run: Any, status: dict[str, Any], markdown: str) -> dict[str, Any]:
    """The model card as the page shows it; ``markdown`` is the file that goes with the download."""
    result = result_of(run, status)
    config = run.config() | (result.get("config") or {})
    rows = align_view.rows_of(result)
    base, aligned = (rows[0], rows[-1]) if len(rows) > 1 else ({}, {})
    pairs = result.get("pairs") if isinstance(result.get("pairs"), dict) else {}
    trained = sum(pairs.get(side, 0) for side in ("instruct", "fit"))
    shown = []
    for title, key, digits in RESULTS:
        if aligned.get(key) is None:
            continue
        beside = (
            f", base {base[key]:.{digits}f}"
            if base.get(key) is not None and key not in ("win_rate", "win_rate_lc", "kl_from_base")
            else ""
        )
        shown.append(
            [
                title + beside,
                f"{aligned[key]:.{digits}f}",
                charts.interval(aligned.get(f"{key}_low"), aligned.get(f"{key}_high")),
            ]
        )
    strength = {int(block): value for block, value in (result.get("relative_strength") or {}).items()}
    mean = sum(strength.values()) / len(strength) if strength else None
    each = ", ".join(f"{value:.2f}" for _, value in sorted(strength.items()))
    alpha = result.get("alpha")
    of = f" of {result['n_blocks']}" if result.get("n_blocks") else ""
    made = [
        ["Blocks", listed(result.get("layers") or []) + of],
        ["Alpha", f"{alpha:.3g}" if isinstance(alpha, (int, float)) else "\N{EN DASH}"],
        ["Relative strength", f"{mean:.2f} ({each})" if mean is not None else "\N{EN DASH}"],
        [
            "Steps, batch, rate",
            f"{result.get('steps') or config.get('align_steps')}, {config.get('align_batch')}, {config.get('align_rate'):g}",
        ],
        ["Seed", str(config.get("seed"))],
        [
            "Time, peak memory",
            f"{charts.duration(status.get('seconds'))}, {charts.amount(result.get('peak_memory_bytes'))}",
        ],
    ]
    sample = next(
        (row for row in votes.lines(run.path / "samples.jsonl") if row.get("base") != row.get("aligned")), None
    )
    facts = aligned.get("facts_right")
    limits = (
        "Trained and judged on the pairs named here; nothing is known about other topics, languages or longer talks."
    )
    if isinstance(facts, (int, float)) and facts < 1:
        limits = f"{1 - facts:.0%} of held-out answers with a checkable fact still state a wrong one. " + limits
    partial = result.get("partial")
    whole = f"A LoRA adapter of {partial['steps']} of {partial['of']} steps" if partial else "A LoRA adapter"
    return {
        "name": context.run_name(status),
        "lead": f"{whole} for {Path(config['model']).name}, made with RAHF ({config['method']}) from "
        f"{trained} preference pairs; {pairs.get('held_out', 'no')} pairs held out.",
        "results": shown,
        "made": made,
        "sample": {name: str(sample.get(name) or "") for name in ("prompt", "base", "aligned")} if sample else None,
        "limits": limits,
        "markdown": markdown,
    }

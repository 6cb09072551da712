"""Verbs about data: ``check`` (pairs)."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench.cli.common import count
from workbench.cli.terminal import ProgressLine, table
from workbench.errors import UserError
from workbench.progress import Progress

LITTLE = 0.005  # shares below it are not named


def add_verbs(verb) -> None:
    """``check``."""
    it = verb("check", "Read pairs and report what was kept, dropped, and why.", check, show_check)
    it.add_argument("pairs", metavar="PAIRS")
    it.add_argument("--model", default="demo", help="whose tokens are counted (demo)")
    it.add_argument("--format", help="the form of the file, where it is not recognised")
    it.add_argument("--columns", metavar="NAME=COLUMN,...", help="which column is prompt, chosen and rejected")
    it.add_argument("--limit", type=count, metavar="N", help="read the first N rows only")
    it.add_argument(
        "--against", metavar="PAIRS", help="other pairs (a test set) that must not share prompts with these"
    )
    it.add_argument("--seed", type=int, default=0, help="of the split whose parts are compared (0)")
    it.add_argument("--out", metavar="F.jsonl", help="write the clean pairs")


def check(options: Namespace) -> dict[str, Any]:
    """What ``check --json`` prints."""
    from workbench.models import load_reader
    from workbench.pairs import compare_sets, load_pairs, overlap, token_report

    line = ProgressLine()
    try:
        progress = Progress(line)
        pairs = load_pairs(
            options.pairs,
            columns=_columns(options.columns),
            format=options.format,
            limit=options.limit,
            progress=progress,
        )
        report = pairs.report.to_dict() | token_report(pairs, load_reader(options.model), progress=progress)
        progress("compare", message="comparing prompts")
        try:
            report["overlap"] = overlap(pairs, options.seed)
        except UserError:  # too few to split, as a warning says
            report["overlap"] = None
        if options.against:
            report["against"] = compare_sets(pairs, load_pairs(options.against, progress=progress))
    finally:
        line.close()
    report["dropped_rows"] = pairs.report.dropped
    report["dropped"] = pairs.report.counts
    if options.out:
        try:
            pairs.to_jsonl(Path(options.out).expanduser())
        except OSError as error:
            raise UserError(f"{options.out} cannot be written: {error.strerror or error}.") from error
        report["out"] = options.out
    return report


def show_check(report: dict[str, Any]) -> str:
    """The report for a reader."""
    hints = report["hints"]
    sides = [{"tokens of": name} | report[f"{name}_tokens"] for name in ("prompt", "chosen", "rejected")]
    lines = [f"{report['kept']:,} of {report['read']:,} pairs kept (format: {report['format']})"]
    for reason, rows in report["dropped_rows"].items():
        named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        lines.append(f"  {len(rows):,} dropped: {reason} ({'row' if len(rows) == 1 else 'rows'} {named})")
    lines += ["", table(sides, ("tokens of", "p50", "p95", "max"))]
    if report["sample"]:
        lines.append(f"(counted on a random sample of {report['sample']:,} pairs and the longest)")
    if report["too_long"]:
        limits = report["limits"]
        lines.append(
            f"{report['too_long_share']:.1%} are longer than {limits['prompt']} tokens of prompt or "
            f"{limits['completion']} of answer, and would be cut"
        )
    auc = report["length_auc"]
    lines += [
        "",
        f"Chosen is longer in {hints['lengths']['chosen_longer']:.0%} of the pairs; AUC of length alone in tokens "
        f"{auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]",
        *(f"{name.capitalize()} (a guess): {_shares(hints[name])}" for name in ("scripts", "languages") if hints[name]),
        _near(hints["near_duplicates"]),
        *(report[name]["sentence"] for name in ("overlap", "against") if report.get(name)),
        "",
        *(f"Note: {warning}" for warning in report["warnings"]),
    ]
    return "\n".join(lines + ([f"Written to {report['out']}"] if "out" in report else [])).rstrip()


def _shares(found: list[dict[str, Any]], most: int = 5) -> str:
    named = [f"{item['name']} {100 * item['share']:.3g}%" for item in found[:most] if item["share"] >= LITTLE]
    return ", ".join(named + (["others"] if len(found) > len(named) else []))


def _near(found: dict[str, Any]) -> str:
    if not found["pairs"]:
        return "No near-duplicates"
    groups = ["rows " + ", ".join([*map(str, rows[:4]), *["..."] * (len(rows) > 4)]) for rows in found["groups"]]
    named = "; ".join([*groups[:3], *["..."] * (len(groups) > 3)])
    return f"Near-duplicates: {found['pairs']:,} pairs are nearly the same as another ({named})"


def _columns(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    parts = [item.partition("=") for item in text.split(",")]
    if not all(name.strip() and column.strip() for name, _, column in parts):
        raise UserError(f"{text!r} does not say which column is which: write prompt=question,chosen=good,rejected=bad.")
    return {name.strip(): column.strip() for name, _, column in parts}

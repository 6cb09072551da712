"""Taking a run away: its adapter, the merged model, its vectors, a GGUF file, scripts that repeat it, and a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.errors import Stopped, UserError
from workbench.export import gguf_file, hub, repeat, vectors, weights
from workbench.export.card import FIGURES_FOLDER, model_card, write_figures
from workbench.export.facts import read_samples, shareable
from workbench.export.report import report
from workbench.progress import QUIET, Progress
from workbench.rahf.results import read_result

KINDS = ("adapter", "merged", "vectors", "gguf", "notebook", "report")
CARDS = ("adapter", "merged", "vectors", "gguf")  # what goes with a model card
__all__ = ["KINDS", "export", "model_card", "read_samples", "report"]


def export(
    folder: Path,
    to: Path,
    *,
    kinds: Sequence[str] = (),
    merge: bool = False,
    scores: Path | None = None,
    push: str | None = None,
    token: str | None = None,
    private: bool = True,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Write what ``kinds`` names of a run into the empty folder ``to``; with ``push``, also to that repository on the Hub,
    without pairs and without the report unless "report" is among the kinds.

    The kinds: "adapter" (the default where there is one), "merged" (base and adapter as one model; ``merge`` says the
    same), "vectors" (for steering the base), "gguf" (the merged model for llama.cpp), "notebook" (a script and notebooks
    that repeat the run with public packages, and its pairs) and "report" (one HTML page). Several lie in a folder each;
    models and vectors go with their model card, figures and report. Of a run that was stopped and kept it is the adapter
    of the steps done, and the card says so.

    ``scores`` is the folder of a ``separability`` whose pictures the report shows.
    ``token`` is used for that one upload and neither kept nor logged. Returns path, files and bytes. Raises UserError, and
    Stopped when ``progress`` asks for it; what was begun is then taken away again.
    """
    wanted = list(dict.fromkeys([*kinds, *(["merged"] if merge else [])]))
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise UserError(f"There is no export {unknown[0][:40]!r}: choose among {', '.join(KINDS)}.")
    result = read_result(folder)
    wanted = wanted or ["vectors" if result["method"] == "steering" else "adapter"]
    if not set(wanted) <= {"vectors", "report"}:
        weights.need_own_adapter(folder, result)
    if push is not None:
        hub.check_name(push)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already and is not an empty folder: choose another one.")
    try:
        for kind in wanted:
            place = to if len(wanted) == 1 else to / kind
            place.mkdir(parents=True, exist_ok=True)
            _write(kind, folder, place, result, scores, progress)
    except OSError as error:
        _clear(to)
        raise UserError(
            f"The export could not be written ({error.strerror or error}): free space or choose a folder."
        ) from error
    except (UserError, Stopped):
        _clear(to)
        raise
    if push:
        hub.push(to, push, token, private, progress, with_report="report" in wanted)
    files = sorted(path for path in to.rglob("*") if path.is_file())
    return {
        "path": str(to),
        "files": [str(path.relative_to(to)) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
    }


def _write(kind: str, folder: Path, to: Path, result: dict[str, Any], scores: Path | None, progress: Progress) -> None:
    if kind == "adapter":
        weights.write_adapter(folder, to, progress)
    elif kind == "merged":
        weights.write_merged(folder, to, result, progress)
    elif kind == "vectors":
        vectors.write_vectors(folder, to, result, progress)
    elif kind == "gguf":
        gguf_file.write_gguf(folder, to, result, progress)
    elif kind == "notebook":
        repeat.write_repeat(folder, to, result, progress)
    progress("save", message="Writing card and report")
    if kind in CARDS:
        write_figures(folder, to / FIGURES_FOLDER)
        (to / "README.md").write_text(model_card(folder, kind), encoding="utf-8")
        (to / "result.json").write_text(json.dumps(shareable(result), indent=1, ensure_ascii=False), encoding="utf-8")
    if kind != "notebook":
        (to / "report.html").write_text(report(folder, scores), encoding="utf-8")


def _clear(to: Path) -> None:
    """Empty the folder again, which was empty before."""
    for path in to.iterdir() if to.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

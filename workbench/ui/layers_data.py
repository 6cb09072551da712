"""What step 2 reads from a finished run: its scores, its coordinates, the texts of its pairs. No widgets, no torch.

Pairs can be edited after a capture. So a capture works on a copy of them, named by its content, and the picture's texts
come from that copy: ids and texts on the page are those that were measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.ui import layers_pictures, layers_scores, layers_umap, state
from workbench.ui import layers_view as lv
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    from workbench.pairs import Pair, PreferencePairs
    from workbench.runs.store import Run

PICTURE = "picture-3.json"  # the number changes with what it holds
PICTURED = {"pca": "pca", "pca3": "pca", "axis": "axis", "axis3": "axis"}  # arrays drawn, and what they show
LIST = 60  # pairs of a lasso that are listed
_pairs = Cache(4)
_scores = Cache(8)
_places = Cache(4)
_contents = Cache(3)


def snapshot(workspace: Workspace) -> str:
    """What the run's configuration names as pairs: the bundled set's name, or an unchanging copy of the edited file."""
    pairs = workspace.pairs
    if not pairs:
        raise UserError("There are no pairs yet: load some in step 1.")
    if not pairs.get("path"):
        return str(pairs["source"])
    mark = re.sub(r"[^a-z0-9]", "", str(pairs.get("fingerprint", "")).lower())[:24]
    copy = workspace.folder / f"captured-{mark or 'pairs'}.jsonl"
    try:
        if not mark or not copy.exists():
            part = copy.with_suffix(".part")
            shutil.copyfile(pairs["path"], part)
            part.replace(copy)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"The pairs could not be copied for the capture ({why}): free some disk space.") from error
    return str(copy)


def scores(run: Run) -> dict[str, Any]:
    """The run's layers.json. Raises UserError if it is not there or damaged."""
    path = run.path / "layers.json"

    def load() -> dict[str, Any]:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["layers"][0]["probe_auc"], values["suggested_layers"], values["finding"]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError("The scores of this capture are missing or damaged: capture all blocks again.") from error
        return values

    try:
        return _scores.get((str(path), path.stat().st_mtime_ns), load)
    except OSError as error:
        raise UserError(
            "The scores of this capture are no longer on the server's disk: capture all blocks again."
        ) from error


def pairs_of(run: Run) -> tuple[PreferencePairs, dict[int, int]]:
    """The pairs a run measured, and the row of each id. Seconds the first time."""
    source = str(run.config()["pairs"])

    def load() -> tuple[PreferencePairs, dict[int, int]]:
        state.import_engine()  # datasets looks into transformers, which must not be half imported by another thread
        from workbench.pairs import load_pairs

        pairs = load_pairs(source)
        return pairs, {id_: row for row, id_ in enumerate(pairs.ids)}

    return _pairs.get((source, run.id), load)


def pair_ids(run: Run) -> np.ndarray:
    """The ids [N] of the measured pairs, in the order of all coordinates."""
    return _measured(run, "pair_ids")


def _measured(run: Run, name: str) -> np.ndarray:
    """One small array of a capture, without its states. Raises UserError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(run.path / "activations.safetensors"), framework="numpy") as file:
            return file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UserError("The states of this capture are missing or damaged: capture all blocks again.") from error


def picture(run: Run) -> str:
    """The value of the view ``layers-data``: coordinates of all blocks and short texts. Made once, then kept."""
    kept = run.path / PICTURE
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        pass
    from workbench.runs.files import write_whole
    from workbench.ui import html

    text = html.value(_picture(run))
    with contextlib.suppress(OSError):  # a full disk: it is made again next time
        write_whole(kept, text, sync=False)
    return text


def _picture(run: Run) -> dict[str, Any]:
    from workbench.pairs import prompt_text
    from workbench.representations.files import read_arrays

    arrays, _ = read_arrays(run.path / "coords.safetensors")
    found = scores(run)
    ids = pair_ids(run)
    rows = lv.drawn(len(ids))
    pairs, where = pairs_of(run)
    texts: dict[str, list[str]] = {"prompts": [], "chosen": [], "rejected": []}
    for id_ in ids[rows]:
        pair = pairs[where[int(id_)]] if int(id_) in where else None
        texts["prompts"].append(lv.shortened(prompt_text(pair.prompt)) if pair else "")
        texts["chosen"].append(lv.shortened(pair.chosen) if pair else "")
        texts["rejected"].append(lv.shortened(pair.rejected) if pair else "")
    axis = lv.take_pairs(arrays["axis"], rows)
    gaps = axis[min(found["suggested_layers"][0], len(axis) - 1), :, 0]
    gaps = gaps[: len(rows)] - gaps[len(rows) :]
    shares = {name: arrays.get(f"{name}_explained") for name in PICTURED}
    return {
        "run": run.id,
        "ids": [int(id_) for id_ in ids[rows]],
        "typical": int(ids[rows][int(np.argsort(gaps)[len(gaps) // 2])]),
        "caption": lv.picture_caption(len(rows), len(ids)),
        "columns": layers_pictures.colour_columns(extras_of(pairs, [where.get(int(id_)) for id_ in ids[rows]])),
        "sets": {
            name: layers_pictures.projection(lv.take_pairs(arrays[name], rows), kind, shares[name])
            for name, kind in PICTURED.items()
            if name in arrays
        },
        **texts,
    }


def extras_of(pairs: PreferencePairs, places: list[int | None]) -> list[dict[str, Any]]:
    """The source's other columns of the pairs at these positions, one dictionary each (empty for None)."""
    there = [at for at in places if at is not None]
    texts = iter(pairs.dataset.select_columns(["extra"]).select(there)["extra"])
    found = [json.loads(next(texts) or "{}") if at is not None else {} for at in places]
    return [extra if isinstance(extra, dict) else {} for extra in found]


def colour_columns(run: Run) -> list[dict[str, str]]:
    """What the points of a run can be coloured by besides side and score: rows {key, name}."""
    return json.loads(picture(run))["columns"]


def colour_values(run: Run, column: Any, seed: int = 0) -> dict[str, Any]:
    """The value of the view ``layers-colour``: a column's values for the drawn pairs, with their legend.

    ``seed`` is that of the split. Raises UserError for a column that is not among :func:`colour_columns`.
    """
    known = {entry["key"]: entry["name"] for entry in colour_columns(run)}
    if not isinstance(column, str) or column not in known:
        raise UserError("There is no such column to colour by.")
    ids = pair_ids(run)
    rows = lv.drawn(len(ids))
    if column == "length":
        lengths = _lengths(run)[rows]
        made = layers_pictures.colour_of(lengths.T.reshape(-1).tolist(), known[column], unit="tokens")
        return {"run": run.id, "column": column, **made}
    pairs, where = pairs_of(run)
    places = [where.get(int(id_)) for id_ in ids[rows]]
    if column == "split":
        sides = pairs.sides(seed)
        words = [None if at is None else "held out" if sides[at] == "held_out" else "training" for at in places]
        made = layers_pictures.colour_of(words, known[column], ordered=["training", "held out"])
        return {"run": run.id, "column": column, **made}
    extras = extras_of(pairs, places)
    kind, _, name = column.partition(":")
    values = [extra.get(one) for one in (name.split("|") if kind == "sides" else [name]) for extra in extras]
    return {"run": run.id, "column": column, **layers_pictures.colour_of(values, known[column])}


def _lengths(run: Run) -> np.ndarray:
    """The completion tokens [N, 2] of both sides of the measured pairs."""
    return _measured(run, "lengths")


def ask_umap(run: Run) -> None:
    """Begin the UMAP of the drawn pairs of a run, unless it is begun or done."""
    layers_umap.ask(run.path, lv.drawn(len(pair_ids(run))))


def umap_value(run: Run) -> dict[str, Any]:
    """The value of the view ``layers-umap``: how far it is, and once it is done the picture of all blocks."""
    value = {"run": run.id, "set": None, **layers_umap.state(run.path)}
    if value["state"] == "done":
        found = layers_umap.result(run.path, 2 * len(lv.drawn(len(pair_ids(run)))))
        if found is None or len(found) != len(scores(run)["layers"]):
            value["state"] = "none"  # of other pairs, or torn: it is computed anew when it is asked for
        else:
            value["set"] = layers_pictures.projection(found, "umap")
    return value


def ready_view(run: Run) -> dict[str, Any]:
    """What the view ``layers`` needs of a finished run, without the visitor's choices."""
    found = scores(run)
    layers, suggested = found["layers"], [int(layer) for layer in found["suggested_layers"]]
    curves = [(curve["chosen"], curve["rejected"]) for curve in found["densities"]] if found.get("densities") else None
    shortcuts = found.get("controls") or []
    said = str(found.get("shortcut") or "")
    return {
        "phase": "ready",
        "run": run.id,
        "title": found["finding"],
        "lead": layers_scores.lead(found),
        "shortcut": {"text": said, "explains": layers_scores.explained(found)} if said else None,
        **lv.strip(layers, suggested, curves),
        "caption": f"{found.get('pairs', 0):,} held-out pairs, 95% intervals",
        "chance_caption": "95% of random swaps",
        "suggested": suggested,
        "table": layers_scores.table(layers),
        "scores": {key: value for key, value in found.items() if key not in ("densities", "explained")},
        "controls": layers_scores.controls(layers, shortcuts)
        | {"notes": [str(note) for note in found.get("notes") or []]},
    }


def one_pair(run: Run, id_: Any, now: PreferencePairs | None = None) -> dict[str, Any]:
    """The value of the view ``layers-pair`` for one pair; ``now`` are the visitor's pairs, if they were edited since.

    Raises UserError for an id that was not measured.
    """
    from workbench.pairs import prompt_text

    pairs, where = pairs_of(run)
    if type(id_) is not int or id_ not in where:
        raise UserError("There is no such pair in this capture.")
    pair = pairs[where[id_]]
    return {
        "kind": "pair",
        "run": run.id,
        "id": id_,
        "prompt": prompt_text(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "axis": places_of(run, id_),
        "dropped": now is not None and not ids_now(run, [id_], now),
    }


def places_of(run: Run, id_: int) -> list[list[float]]:
    """Where both answers of a pair lie on each block's preference axis: [[chosen, rejected], ...], held out."""

    def load() -> tuple[np.ndarray, dict[int, int]]:
        from workbench.representations.files import read_arrays

        arrays, _ = read_arrays(run.path / "coords.safetensors")
        return arrays["axis"][:, :, 0], {int(number): row for row, number in enumerate(pair_ids(run))}

    along, rows = _places.get(run.id, load)
    if id_ not in rows:
        return []
    at = along[:, [rows[id_], len(rows) + rows[id_]]]
    return [[round(float(chosen), 3), round(float(rejected), 3)] for chosen, rejected in at]


def some_pairs(run: Run, ids: Any) -> dict[str, Any]:
    """The value of the view ``layers-pair`` for the pairs in a lasso. Raises UserError."""
    from workbench.pairs import prompt_text

    pairs, where = pairs_of(run)
    found = valid_ids(ids, where)
    if len(found) == 1:
        return one_pair(run, found[0])
    items = [{"id": id_, "prompt": lv.shortened(prompt_text(pairs[where[id_]].prompt), 120)} for id_ in found[:LIST]]
    return {"kind": "list", "count": len(found), "ids": found, "items": items}


def ids_now(run: Run, ids: Any, now: PreferencePairs) -> list[int]:
    """The ids in ``now`` of measured pairs. By content: a pair's number is its row in a file, and files are rewritten.

    Raises UserError if none of ``ids`` was measured; gives an empty list if none of them is left.
    """
    pairs, where = pairs_of(run)

    def load() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, pair in zip(now.numbers.tolist(), now, strict=True):  # large sets are numbered there only
            found.setdefault(_content(pair), []).append(number)
        return found

    known = _contents.get(now.fingerprint, load)
    return sorted({id_ for old in valid_ids(ids, where) for id_ in known.get(_content(pairs[where[old]]), [])})


def _content(pair: Pair) -> int:
    return hash((json.dumps(pair.prompt, sort_keys=True), pair.chosen, pair.rejected))


def valid_ids(ids: Any, known: Any) -> list[int]:
    """The ids that are known, in order, once each. Raises UserError if there is none."""
    wanted = ids if isinstance(ids, list) else []
    found = sorted({id_ for id_ in wanted if type(id_) is int and id_ in known})
    if not found:
        raise UserError("None of these pairs is in this capture.")
    return found

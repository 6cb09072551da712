"""Where pairs come from: the bundled sets, a file, the Hub, or text that somebody pasted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.pairs.checks import REASONS, sound
from workbench.pairs.core import Pair, PreferencePairs
from workbench.pairs.formats import FORMATS, named, recognise
from workbench.pairs.forms import Format, Roles
from workbench.pairs.keep import Keeper, keep_pairs
from workbench.pairs.messages import Unfit, prompt_text
from workbench.pairs.readers import KINDS, TYPES, open_batches, open_file, open_text
from workbench.pairs.rows import Broken, Table
from workbench.progress import QUIET, Progress

PASTED = "the pasted text"  # what messages call it
ASSETS = Path(__file__).resolve().parents[2] / "assets" / "pairs"
_DEMO = re.compile(r"demo(?:/(?P<value>[^:]+))?(?::(?P<split>.+))?")
_HUB = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+))?")


@dataclass(frozen=True)
class DemoValue:
    """One bundled value: its ``name`` as in "demo/name", a title and a sentence about it."""

    name: str
    title: str
    about: str
    default: bool


@dataclass(frozen=True)
class Preview:
    """The first rows of a source as they stand there, for mapping columns by hand.

    ``format`` is "" if none fits. ``total`` counts all rows, None where they would have to be read to be counted.
    ``pairs`` are the first that come out of the rows looked at ({"prompt", "chosen", "rejected"} as texts), and
    ``dropped`` says how many of those rows are none, by reason; both are empty where no format fits.
    """

    name: str
    columns: list[str]
    rows: list[dict[str, Any]]
    total: int | None
    format: str
    roles: dict[str, str]
    pairs: list[dict[str, str]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    looked_at: int = 0


def demo_values() -> list[DemoValue]:
    """The bundled values, the default first. Raises UserError if the assets are not there."""
    try:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ASSETS.glob("*/about.json"))]
    except (OSError, ValueError) as error:
        raise UserError(f"The bundled pairs are damaged ({error}): get the program again.") from error
    if not found:
        raise UserError(f"The bundled pairs are missing from {ASSETS}: get the program again, with its assets folder.")
    values = [DemoValue(item["name"], item["title"], item["about"], bool(item["default"])) for item in found]
    return sorted(values, key=lambda value: not value.default)


def is_hub_id(source: str) -> bool:
    """Whether ``source`` has the form of a data set on the Hub: "org/name[/config][:split]"."""
    match = _HUB.fullmatch(source.strip())
    return match is not None and Path(source).suffix.lower() not in (*KINDS, ".gz") and match["id"] is not None


def load_pairs(
    source: str | Path,
    *,
    columns: dict[str, str] | None = None,
    format: str | None = None,
    limit: int | None = None,
    local: bool = True,
    progress: Progress = QUIET,
    cache: str | Path | None = None,
    most_bytes: int | None = None,
) -> PreferencePairs:
    """The pairs of a source, checked, with a report of what was dropped and why.

    ``source``: "demo", "demo/VALUE", "demo:test", "demo/VALUE:test", a file, or a Hub id "org/name[/config][:split]".
    ``columns`` says which column plays which role, for example {"prompt": "question", "chosen": "good", "rejected":
    "bad"}; ``format`` names one of FORMATS instead of recognising it; ``limit`` reads the first rows only; with
    ``local=False`` only bundled pairs and Hub ids are read, never a file of this machine.

    Rows stream by: many pairs are written to a file in the folder ``cache`` (None: a temporary one) and mapped into
    memory from there; the file goes when nobody holds the pairs any more, or selections of them. With
    ``most_bytes`` reading ends where the texts are more than that, so that a small packed file cannot fill the disk.

    Raises UserError, one sentence, for anything that cannot be read or holds no usable pair.
    """
    if limit is not None and limit < 1:
        raise UserError(f"A limit of {limit} rows leaves no pairs: choose 1 or more.")
    source = str(source).strip()
    table, name, form = _find(source, limit, local, progress)
    with table:
        return _pairs_of(
            table, name, source, columns, format or form, limit, progress, cache=cache, most_bytes=most_bytes
        )


def pairs_from_text(
    text: str, *, columns: dict[str, str] | None = None, format: str | None = None, name: str = "pasted"
) -> PreferencePairs:
    """The pairs in pasted text: JSON Lines, JSON, CSV or TSV with a header. Raises UserError."""
    with _begun():
        table = open_text(text, PASTED)
        return _pairs_of(table, name, "pasted text", columns, format, None, QUIET, called=PASTED)


@contextmanager
def _begun() -> Iterator[None]:
    """Sentences begin with a capital letter, also where a name that has none begins them."""
    try:
        yield
    except UserError as error:
        said = str(error)
        raise UserError(said[:1].upper() + said[1:]) from error


def preview(
    source: str | Path,
    *,
    text: str | None = None,
    count: int = 5,
    local: bool = True,
    columns: dict[str, str] | None = None,
) -> Preview:
    """The first ``count`` rows of a source (or of pasted ``text``) as they are, and how they would be read, with
    ``columns`` as in :func:`load_pairs`.

    Raises UserError if nothing can be read, or if the mapping by hand cannot be used; a source in no known format is
    no error here.
    """
    source = str(source).strip()
    if text is not None:
        with _begun():
            table, name = open_text(text, PASTED), "pasted"
    else:
        table, name, _ = _find(source, None, local, QUIET)
    with table:
        rows, head = table.first_rows, table.head
        shown = Preview(name, table.columns, rows[:count], table.total, "", {}, looked_at=len(head))
        try:
            form, roles = _form_of(table, columns, None, name)
        except UserError:
            if columns or not rows:
                raise
            return shown
    pairs, dropped = [], Counter()
    for number, row in head:
        try:
            if isinstance(row, Broken):
                raise Unfit("broken line")
            pair = sound(Pair(number, *form.read(row, roles)))
        except Unfit as unfit:
            dropped[unfit.reason] += 1
            continue
        if len(pairs) < count:
            pairs.append({"prompt": prompt_text(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected})
    ordered = {reason: dropped[reason] for reason in REASONS if reason in dropped}
    return replace(shown, format=form.name, roles=roles, pairs=pairs, dropped=ordered)


# -- finding ----------------------------------------------------------------------------------------------------------


def _find(source: str, limit: int | None, local: bool, progress: Progress) -> tuple[Table, str, str | None]:
    """The table of a source, a short name for it, and its format where that is known."""
    if not source:
        raise UserError("No pairs were named: give demo, a file, or a data set id of the Hub such as org/name.")
    progress("load", message=f"reading {source}")
    if match := _DEMO.fullmatch(source):
        path, name = _demo_file(match["value"], match["split"])
        return open_file(path, f"The bundled set {source}"), name, "trl-explicit"
    if local:
        path = Path(source).expanduser()
        if _exists(path):
            if path.is_dir():
                raise UserError(f"{source} is a folder: name one file in it, {TYPES}.")
            return open_file(path, path.name), re.sub(r"(\.[A-Za-z]+)+$", "", path.name) or path.name, None
        if not is_hub_id(source):
            raise UserError(
                f"There is no file {source}: check the name, or give a data set id of the Hub such as org/name."
            )
    elif not is_hub_id(source):
        raise UserError(f"{source[:80]} is no data set id: give one such as org/name or org/name:train.")
    return open_hub(source, limit), _HUB.fullmatch(source)["id"].split("/")[1], None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a NUL in it, names no file
        return False


def _demo_file(value: str | None, split: str | None) -> tuple[Path, str]:
    values = demo_values()
    value = value or values[0].name
    if value not in {item.name for item in values}:
        raise UserError(f"There is no bundled value {value}: choose {', '.join(item.name for item in values)}.")
    splits = {path.stem: path for path in sorted((ASSETS / value).glob("*.jsonl"))}
    split = split or "train"
    if split not in splits:
        raise UserError(f"The bundled value {value} has no split {split}: choose {', '.join(splits)}.")
    return splits[split], value if split == "train" else f"{value} {split}"


# -- the Hub ----------------------------------------------------------------------------------------------------------


def open_hub(source: str, limit: int | None = None) -> Table:
    """The rows of a data set on the Hub (split "train" unless it is named). Code of a data set is never run.

    Raises UserError if the Hub cannot be reached, the data set is not there, or it has no such configuration or split.
    """
    match = _HUB.fullmatch(source)
    name, config, split = match["id"], match["config"], match["split"] or "train"
    _ask_hub(name)
    from datasets import DownloadConfig, load_dataset

    part = f"{split}[:{limit}]" if limit else split
    try:
        dataset = load_dataset(name, config, split=part, download_config=DownloadConfig(max_retries=1))
    except Exception as error:  # the library raises whatever its file systems, parsers and the network raise
        raise UserError(_hub_message(name, error)) from error
    if not len(dataset):
        raise UserError(f"{source} holds no rows: choose another split.")

    def batches() -> Iterator[list[dict[str, Any]]]:
        for batch in dataset.with_format("arrow").iter(500):
            yield batch.to_pylist()

    return open_batches(batches(), list(dataset.column_names), len(dataset))


def _ask_hub(name: str) -> None:
    """Whether the Hub knows the data set, asked first because this question has a time limit of 30 s.

    In offline mode nothing is asked: a copy that was downloaded earlier may be there.
    """
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        return
    try:
        HfApi().dataset_info(name, timeout=30)
    except Exception as error:  # network libraries have no common base class
        raise UserError(_hub_message(name, error)) from error


def _hub_message(name: str, error: Exception) -> str:
    """One sentence from what the Hub's libraries raise; they name their errors better than they explain them."""
    kind, said = type(error).__name__, " ".join(str(error).split())
    if kind == "GatedRepoError" or "gated" in said.lower():
        return f"{name} could not be read from the Hub: accept its conditions on its page and log in first."
    if kind == "RepositoryNotFoundError" or re.search(r"\b40[14]\b", said):
        return f"{name} could not be read from the Hub: there is no data set of this name, or it is private; check it."
    if "Unknown split" in said or "Config name is missing" in said or "BuilderConfig" in said:
        return (
            f"{name} could not be read from the Hub ({said[:300]}): name it as org/name:split or org/name/config:split."
        )
    if "scripts are no longer supported" in said or "trust_remote_code" in said:
        return f"{name} could not be read from the Hub: it needs code of its own, which is never run."
    if "offline" in kind.lower() or "offline" in said.lower():
        return (
            f"{name} could not be read from the Hub: this machine is offline and has no copy of it; use a file instead."
        )
    if kind in ("DatasetNotFoundError", "EmptyDatasetError", "DataFilesNotFoundError"):
        return (
            f"{name} could not be read from the Hub: there is no such data set with files that can be read; check it."
        )
    return f"{name} could not be read from the Hub ({kind}: {said[:160]}): check name and connection, or use a file."


# -- from rows to pairs -----------------------------------------------------------------------------------------------


def _pairs_of(
    table: Table,
    name: str,
    source: str,
    columns: dict[str, str] | None,
    wanted: str | None,
    limit: int | None,
    progress: Progress,
    called: str = "",
    cache: str | Path | None = None,
    most_bytes: int | None = None,
) -> PreferencePairs:
    called = called or (Path(source).name if source else name)
    form, roles = _form_of(table, columns, wanted, called, limit)
    keeper = Keeper(lambda row: form.read(row, roles), set(roles.values()), cache, most_bytes)
    keep_pairs(table, keeper, limit, progress)
    pairs = keeper.finish(form, roles, called, name, source)
    if form.name == "trl-implicit-text":
        pairs.report.warnings.insert(
            0, "There is no prompt column: what both texts begin with was taken as the prompt."
        )
    progress("pairs", 1, 1, message=f"{len(pairs):,} of {pairs.report.read:,} rows kept")
    return pairs


def _form_of(
    table: Table, mapping: dict[str, str] | None, wanted: str | None, called: str, limit: int | None = None
) -> tuple[Format, Roles]:
    """The format and its roles; with a mapping by hand, only the mapped columns are looked at, under their roles."""
    head, columns = [row for _, row in table.head[:limit]], table.columns
    plain = [row for row in head if not isinstance(row, Broken)]
    if len(head) > 2 * len(plain):  # most lines are broken
        raise UserError(next(row.why for row in head if isinstance(row, Broken)))
    if not mapping:
        return recognise(columns, plain, called, wanted)
    mapping = {role: column for role, column in mapping.items() if column}
    missing = [column for column in mapping.values() if column not in columns]
    if missing:
        raise UserError(f"{called} has no column {named(missing[:1])}: choose from {named(columns)}.")
    if wanted is None and not {"chosen", "rejected"} <= set(mapping):
        raise UserError("Say at least which columns are chosen and rejected.")
    mapped = [{role: row.get(column) for role, column in mapping.items()} for row in plain[:50]]
    form, roles = recognise(list(mapping), mapped, called, wanted)
    return form, {role: mapping[column] for role, column in roles.items()}


__all__ = ["FORMATS", "DemoValue", "Preview", "demo_values", "is_hub_id", "load_pairs", "pairs_from_text", "preview"]

"""Settings as a file: the YAML that the command line takes, made of a draft or a run, and read back into a draft.

What is read may come from anyone. It is looked through event by event before anything is built of it: no aliases (a
few lines of them can stand for gigabytes), no nesting beyond a list of blocks. Model and pairs in a file are never
opened: the page's own stay.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.ui import align_fields, align_form, downloads
from workbench.ui.state import Workspace

MOST_BYTES = 256 * 1024
MOST_TEXT = 20_000  # characters of one setting
NUMBER = re.compile(r"[-+]?0[xb][\da-fA-F_]+|[-+\d_:.,]+")  # what YAML may take for one
HEAD = "# Settings of a RAHF Workbench run; python -m workbench align --config {name}\n"


# -- out ---------------------------------------------------------------------------------------------------------------


def written(config: dict[str, Any], name: str, pairs: str) -> Path:
    """A run's configuration as a YAML file to be downloaded. ``pairs`` stands in for a path of this server,
    which is nobody else's business."""
    from workbench.rahf.config import RunConfig

    path = downloads.place(name)
    try:
        RunConfig.from_dict(config | {"pairs": pairs}).to_yaml(path)
        path.write_text(HEAD.format(name=name) + path.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"The file could not be written ({error.strerror or error}): free some disk space and try again."
        ) from error
    return path


def draft_file(workspace: Workspace) -> Path:
    """The settings of the next run. Raises UserError while one of them is wrong."""
    values, wrong = align_form.read(align_form.draft_of(workspace), workspace)
    if wrong:
        raise UserError(f"The settings were not saved. {next(iter(wrong.values()))}")
    return written(values, "settings.yaml", pairs_name(values["pairs"], workspace))


def run_file(run: Any, workspace: Workspace) -> Path:
    """The settings of a run."""
    name = re.sub(r"[^\w.-]+", "-", str(run.id)).strip("-.") or "run"
    config = run.config()
    return written(config, f"{name}-settings.yaml", pairs_name(str(config.get("pairs")), workspace))


def pairs_name(source: str, workspace: Workspace) -> str:
    """A bundled set or a Hub id as it is; of a file, its name."""
    if not Path(source).is_absolute():
        return source
    pairs = workspace.pairs or {}
    return Path(str(pairs["name"])).name if source == pairs.get("path") and pairs.get("name") else Path(source).name


# -- in ----------------------------------------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """A file's text. Raises UserError if it is too large or none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(
                f"{path.name} is larger than {MOST_BYTES // 1024} KB: a settings file holds a page of text."
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is no text: choose a file that “Save settings” made.") from error
    except OSError as error:
        raise UserError(f"{path.name} could not be read ({error.strerror or error}): choose it again.") from error


def parsed(text: str, name: str) -> dict[str, Any]:
    """The settings in a YAML text: only names of settings, only plain values or a list of blocks. Raises UserError."""
    import yaml

    try:
        _look_through(text)
        values = yaml.safe_load(text)
    except UserError as error:
        raise UserError(f"{name} was not loaded: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (see line {mark.line + 1})" if mark else ""
        raise UserError(f"{name} was not loaded: it is no YAML of lines like align_steps: 200{where}.") from error
    if not isinstance(values, dict) or not values:
        raise UserError(f"{name} was not loaded: it must hold lines of the form align_steps: 200.")
    if unknown := [str(key)[:40] for key in values if key not in align_fields.known_fields()]:
        raise UserError(f"{name} was not loaded: {_unknown(unknown)}")
    for key, value in values.items():
        plain = value is None or isinstance(value, (str, int, float, bool))
        if not plain and not (key == "layers" and isinstance(value, list) and len(value) <= 1000):
            raise UserError(f"{name} was not loaded: {key} must be a single value.")
        if isinstance(value, str) and len(value) > MOST_TEXT:
            raise UserError(f"{name} was not loaded: {key} is longer than {MOST_TEXT:,} characters.")
    return values


def _look_through(text: str) -> None:
    """Raises UserError for what no settings file needs, before anything is built of it."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise UserError("it uses aliases (*name), which no setting needs.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > 2:
                raise UserError(
                    "it holds lists or mappings within each other; settings are lines like align_steps: 200."
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > 400 and NUMBER.fullmatch(event.value):
            raise UserError("it holds a number of more than 400 digits.")


def _unknown(names: list[str]) -> str:
    """One sentence that names what is no setting."""
    close = difflib.get_close_matches(names[0], align_fields.known_fields(), 1)
    listed = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    hint = f"; do you mean {close[0]}?" if close else "."
    return f"there is no setting {listed}{hint}" if len(names) == 1 else f"these are no settings: {listed}{hint}"


def into_draft(values: dict[str, Any], workspace: Workspace) -> tuple[dict[str, Any], list[int] | None, str]:
    """The draft that settings of a file or a run mean, their blocks, and what they do not bring along (one or two
    sentences, or "")."""
    from workbench.rahf.config import RunConfig

    under = align_form.below({}, workspace)
    draft = {
        name: value
        for name, value in values.items()
        if name in under
        and name not in align_form.NOT_TYPED
        and value is not None
        and not align_fields.same(name, value, under[name])
    }
    draft["strength"] = align_form.way_of(draft)
    try:
        blocks = RunConfig.from_dict({"layers": values.get("layers")}).layers
        said = ""
    except UserError:
        blocks, said = None, "Its blocks make no sense and were left out."
    if gone := sorted(set(values) - set(under)):  # of a run that another version made
        said += f" This version has no setting {', '.join(gone[:5])}: left out."
    return draft, list(blocks) if blocks is not None else None, f"{others(values, workspace)} {said.strip()}".strip()


def others(values: dict[str, Any], workspace: Workspace) -> str:
    """A sentence if model or pairs of these settings are others than the page's, which stay; else ""."""
    mine = {"model": workspace.model_source, "pairs": workspace.pairs_source or "demo"}
    named = {"pairs": pairs_name(mine["pairs"], workspace), "model": mine["model"]}
    differ = [
        name
        for name in ("model", "pairs")
        if values.get(name) is not None and str(values[name]) not in (mine[name], named[name])
    ]
    if not differ:
        return ""
    theirs = " and ".join(f"{name} {Path(str(values[name])[:200]).name[:60]}" for name in differ)
    return f"Made with {theirs}: not taken over. Model and pairs stay as chosen on this page."


def loaded(path: Path) -> dict[str, Any]:
    """The settings in an uploaded file. Raises UserError."""
    return parsed(text_of(path), path.name[:80])

"""Links to comparisons: read-only pages under ids that nobody can guess, which whoever made them can list and take back.

``share(visitor, payload)`` keeps what the visitor chose to show and returns the page's path; the payload's form is that of
``workbench.export.comparison.checked``. What is kept lies in the visitor's own folder, so it counts to their quota and goes
with it; beside it a file named by the id says whose it is. Nothing of a visitor's id or runs is on the page.
"""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.jsonfile import read_json, write_json
from workbench.ui import downloads, quota, state

ID = re.compile(r"[A-Za-z0-9_-]{22}")
DAYS, MOST, BYTES = 30, 50, 2_000_000
HEADERS = {
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
GONE = "This comparison is not here: its link has expired, was taken back, or was never made."


def share(visitor: str, payload: dict[str, Any], charts: list[dict[str, Any]] | None = None) -> str:
    """Keep a comparison for ``DAYS`` days and return the path of its page, ``/share/<id>``.

    Raises UserError for what is no comparison, is too large, or does not fit the visitor's share of the disk.
    """
    from workbench.export.comparison import checked

    folder = _folder(visitor)
    kept = {"payload": checked(payload), "charts": charts or [], "made": time.time()}
    kept["expires"] = kept["made"] + DAYS * 86_400
    size = len(str(kept).encode())
    if size > BYTES:
        raise UserError("This comparison is too long to be shared: choose fewer prompts.")
    if len(shares_of(visitor)) >= MOST:
        raise UserError(f"You have {MOST} links already: take one back first.")
    quota.need(visitor, size)
    share_id = secrets.token_urlsafe(16)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _owners().mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(folder / f"{share_id}.json", kept)
        write_json(_owners() / share_id, {"visitor": visitor})
    except OSError as error:
        raise UserError(f"The link could not be kept ({error.strerror or error}): free some disk space.") from error
    return f"/share/{share_id}"


def shares_of(visitor: str) -> list[dict[str, Any]]:
    """The visitor's links that hold, newest first: id, path, title, prompts, made and expires (unix seconds)."""
    found = []
    for path in _folder(visitor).glob("*.json"):
        kept = _read(path)
        if kept is None:
            _remove(visitor, path.stem)
            continue
        shown = kept["payload"]
        found.append(
            {"id": path.stem, "path": f"/share/{path.stem}", "title": shown["title"], "prompts": len(shown["rows"])}
            | {"made": kept["made"], "expires": kept["expires"]}
        )
    return sorted(found, key=lambda one: one["made"], reverse=True)


def revoke(visitor: str, share_id: Any) -> None:
    """Take a link back: its page is gone at once. Raises UserError for a link that is not this visitor's."""
    if not _is_id(share_id) or not (_folder(visitor) / f"{share_id}.json").exists():
        raise UserError("There is no such link of yours; it may have expired.")
    _remove(visitor, share_id)


def page_of(share_id: Any) -> str | None:
    """The page under an id; None where there is none (any more)."""
    from workbench.export.comparison import comparison_page

    if not _is_id(share_id):
        return None
    visitor = (read_json(_owners() / share_id) or {}).get("visitor")
    if not state.is_visitor(visitor):
        return None
    kept = _read(_folder(visitor) / f"{share_id}.json")
    if kept is None:
        return None
    return comparison_page(kept["payload"], kept["made"], kept["expires"], kept["charts"])


def as_file(visitor: str, payload: dict[str, Any], charts: list[dict[str, Any]] | None = None) -> Path:
    """The same page as a file, to be sent without any server."""
    from workbench.export.comparison import comparison_page

    to = downloads.place("comparison.html")
    to.write_text(comparison_page(payload, time.time(), charts=charts or []), encoding="utf-8")
    return to


def mount(app: Any) -> None:
    """Put the route ``/share/<id>`` into the server, before Gradio's own, which would take any path."""
    from html import escape

    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    def shown(request: Any) -> HTMLResponse:
        from workbench.export.shell import policy

        found = page_of(request.path_params["share"])
        headers = HEADERS | {"Content-Security-Policy": policy() + "; frame-ancestors 'none'"}
        if found is None:
            return HTMLResponse(f"<!doctype html><title>Not here</title><p>{escape(GONE)}</p>", 404, headers)
        return HTMLResponse(found, 200, headers)

    app.router.routes.insert(0, Route("/share/{share}", shown, methods=["GET"]))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def _folder(visitor: Any) -> Path:
    if not state.is_visitor(visitor):
        raise UserError(state.LOST)
    return state.workspaces() / visitor / "shares"


def _owners() -> Path:
    return state.workspaces().parent / "shares"


def _read(path: Path) -> dict[str, Any] | None:
    """What is kept in a file if it is whole and has not expired."""
    kept = read_json(path)
    if kept is None or not isinstance(kept.get("expires"), (int, float)) or kept["expires"] < time.time():
        return None
    return kept if isinstance(kept.get("payload"), dict) else None


def _remove(visitor: str, share_id: str) -> None:
    (_owners() / share_id).unlink(missing_ok=True)
    (_folder(visitor) / f"{share_id}.json").unlink(missing_ok=True)

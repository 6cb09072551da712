"""Questions to a server over HTTP with the standard library: tried again where that may help, and no redirect followed
(it would carry the key elsewhere)."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from workbench.errors import UserError

TRIES, UNREACHABLE_TRIES = 6, 3
MOST_BYTES = 2**20  # of a reply
LONGEST_PAUSE = 60.0  # seconds
END = "/chat/completions"


class Refused(Exception):
    """The server understood the request and says why it will not do it."""


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Server:
    """One address that chat completions are posted to. ``pause`` is the first pause before another try, in seconds."""

    def __init__(self, url: str, key: str, pause: float = 1.0, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url.strip())
            self.host = parts.hostname or ""
            if parts.port:
                self.host += f":{parts.port}"
        except ValueError:
            parts, self.host = urlsplit(""), ""
        if parts.scheme not in ("http", "https") or not self.host or "@" in parts.netloc:
            raise UserError(
                f"{url.rpartition('@')[2][:80]!r} is no address of a judge: give one such as https://host/v1 (name, password "
                "and key belong in an environment variable, not in the address)."
            )
        path = parts.path.rstrip("/")
        self.url = urlunsplit((parts.scheme, parts.netloc, path if path.endswith(END) else path + END, parts.query, ""))
        self._key, self._pause, self._timeout = key, pause, timeout
        self._opener = urllib.request.build_opener(_Stay())

    def post(self, values: dict[str, Any], wait: Callable[[float], bool]) -> Any:
        """The reply's JSON ({} for a reply that is none). ``wait`` pauses so many seconds and says whether to give up.

        Raises Refused where the server refuses the request itself, UserError where it cannot be asked.
        """
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self.url, json.dumps(values).encode(), headers, method="POST")
        why = ""
        for number in range(TRIES):
            pause = min(LONGEST_PAUSE, self._pause * 2**number)
            try:
                with self._opener.open(request, timeout=self._timeout) as reply:
                    return _parsed(reply.read(MOST_BYTES))
            except urllib.error.HTTPError as error:
                why = self._reason(error)
                if error.code not in (408, 409, 425, 429) and error.code < 500:
                    raise self._final(error.code, why) from error
                pause = max(pause, min(LONGEST_PAUSE, _seconds(error.headers.get("Retry-After"))))
            except (OSError, http.client.HTTPException) as error:  # URLError and timeouts among them
                why = str(getattr(error, "reason", None) or error or type(error).__name__)[:160]
                if number + 1 >= UNREACHABLE_TRIES:
                    break
            if number + 1 < TRIES and wait(pause):
                break
        raise UserError(
            f"The judge at {self.host} does not answer ({why}): check the address, and that the server runs; what it has "
            "answered is kept, so evaluate again later."
        )

    def _final(self, code: int, why: str) -> Exception:
        if code in (401, 403):
            held = "the key that was given" if self._key else "to be asked without a key"
            return UserError(f"The judge at {self.host} refuses {held} ({code}): check the key's environment variable.")
        if code in (400, 413, 422):
            return Refused(f"{why} ({code})")
        return UserError(f"The judge at {self.host} answers {code} ({why}): check the address and the model's name.")

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """What the server says, in a few words and never with the key in it."""
        try:
            text = error.read(MOST_BYTES).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        told = _parsed(text.encode())
        inner = told.get("error") if isinstance(told, dict) else None
        text = str((inner.get("message") if isinstance(inner, dict) else inner) or text or error.reason)
        if self._key:
            text = text.replace(self._key, "...")
        return " ".join(text.split())[:160]


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {}


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:  # a date
        return 0.0

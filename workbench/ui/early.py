"""What must run in the browser before Gradio's own scripts do: they take the window's functions as they find them when they
are loaded, and what ``launch(head=...)`` is given comes after that."""

from __future__ import annotations

from typing import Any

# Gradio's line "Loading..." counts its seconds frame by frame, and goes on for ever when the line is gone: an idle page
# is drawn anew sixty times a second. Nothing on this page shows such a count, so no frame is given for one.
SCRIPT = r"""<script>(() => {
  const frame = window.requestAnimationFrame.bind(window);
  const count = /^\(\)\s*=>\s*\{\s*[\w$]+\([\w$]+,\s*\(performance\.now\(\)\s*-\s*[\w$]+\([\w$]+\)\)\s*\/\s*1e3\)/;
  window.requestAnimationFrame = then => count.test(then) ? 0 : frame(then);
})()</script>"""


class Early:
    """ASGI: puts the script at the start of the page's head; everything else goes by untouched."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def held(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = b"".join(parts).replace(b"<head>", b"<head>" + SCRIPT.encode(), 1)
                headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                await send(start | {"headers": headers})
                await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, held)

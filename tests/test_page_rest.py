"""A page on which nothing happens asks the browser for nothing: no frames, no answers of the server."""

from __future__ import annotations

import contextlib

from tests.browser import MOST, browser, server  # noqa: F401
from workbench.ui.early import SCRIPT, Early

COUNT = """(() => {
  const frame = window.requestAnimationFrame.bind(window);
  window.frames_asked = 0;
  window.requestAnimationFrame = then => { window.frames_asked += 1; return frame(then); };
})()"""


def test_a_page_at_rest_rests(browser, server):  # noqa: F811
    context = browser.new_context()
    context.add_init_script(COUNT)
    tab = context.new_page()
    tab.set_default_timeout(MOST)
    tab.goto(server.url)
    tab.get_by_role("button", name="Start with the demo").click()
    tab.get_by_role("button", name="Look at the layers").click()  # a step that is left takes its parts along
    tab.get_by_role("button", name="Capture all blocks").wait_for()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    for _ in range(15):  # until the device is known and all is drawn, on a busy machine too
        before = tab.evaluate("window.frames_asked")
        asked.clear()
        tab.wait_for_timeout(2000)
        frames = tab.evaluate("window.frames_asked") - before
        if frames <= 2 and len(asked) <= 1:
            break
    assert before > 0 and frames <= 2 and len(asked) <= 1, (frames, asked)
    context.close()


def test_the_script_stands_first_in_the_page_and_in_nothing_else():
    async def app(scope, receive, send):
        parts = (b"<html><head><title>x</title>", b"</head></html>")
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"41"), (b"x", b"y")]}
        )
        await send({"type": "http.response.body", "body": parts[0], "more_body": True})
        await send({"type": "http.response.body", "body": parts[1]})

    def answer(path: str) -> tuple[dict, bytes]:
        sent: list[dict] = []

        async def send(message):
            sent.append(message)

        with contextlib.suppress(StopIteration):  # nothing in it waits; a loop may be running already, the browser's
            Early(app)({"type": "http", "path": path, "method": "GET"}, None, send).send(None)
        return dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])

    headers, body = answer("/")
    assert body.startswith(f"<html><head>{SCRIPT}<title>".encode())
    assert headers == {b"content-length": str(len(body)).encode(), b"x": b"y"}
    assert SCRIPT.encode() not in answer("/config")[1]

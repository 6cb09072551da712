"""The page. ``main()`` serves it; nothing heavy is imported before the first answer."""

from __future__ import annotations

import argparse
import gc
import logging
import os
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted. Arguments: ``--host``, ``--port``, ``--open``."""
    local = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"  # a Space is reached through its proxy
    parser = argparse.ArgumentParser(prog="app.py", description="The RAHF Workbench in the browser.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME") or local, help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")), help="port to listen on"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Blocks are built: nothing leaves the machine
    gc.disable()  # importing gradio makes a million objects that stay: looking through them again costs a fifth of it
    from workbench.ui import frame, theme

    theme.serve_static()
    page = frame.build().queue(default_concurrency_limit=8)
    page.launch(
        server_name=options.host,
        server_port=options.port,
        inbrowser=options.open,
        theme=theme.theme(),
        head=theme.head(),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size="200mb",
        ssr_mode=False,
        prevent_thread_lock=True,
    )
    gc.freeze()
    gc.enable()
    page.block_thread()

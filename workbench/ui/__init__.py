"""The page. ``main()`` serves it; nothing heavy is imported before the first answer."""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import threading
import time
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted. Arguments: ``--host``, ``--port``, ``--open``, ``--owner``."""
    local = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"  # a Space is reached through its proxy
    parser = argparse.ArgumentParser(prog="app.py", description="The RAHF Workbench in the browser.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME") or local, help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")), help="port to listen on"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--owner", action="store_true", help="one user at home: the page shows all runs of this machine"
    )
    options = parser.parse_args(arguments)
    if options.owner:
        os.environ["RAHF_OWNER"] = "1"
    if not options.host.startswith("127.") and options.host not in ("localhost", "::1"):
        os.environ["RAHF_PUBLIC"] = "1"  # others can reach the page: each sees their own runs only
    keep_hub_token()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Blocks are built: nothing leaves the machine
    gc.disable()  # importing gradio makes a million objects that stay: looking through them again costs a fifth of it
    from workbench.ui import frame, sharing, theme

    theme.serve_static()
    page = frame.build().queue(default_concurrency_limit=8)
    app, _, _ = page.launch(
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
    sharing.mount(app)
    gc.freeze()
    gc.enable()
    threading.Thread(target=tend_runs, name="queue", daemon=True).start()
    page.block_thread()


def keep_hub_token() -> None:
    """Where strangers can reach the page, models and pairs are read from the Hub without this machine's own sign-in:
    what only its owner may read is not for them. (``HF_HUB_DISABLE_IMPLICIT_TOKEN=0`` says otherwise.) Must come before
    huggingface_hub is imported; worker processes inherit it."""
    from workbench.ui.state import owner_mode, public

    if public() and not owner_mode():
        os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")


def tend_runs(pause: float = 2.0) -> None:
    """See to the queue of runs as long as the page is served: start what is due, settle what has ended. Now and then, take
    old downloads away."""
    from workbench.errors import UserError
    from workbench.runs import queue
    from workbench.ui import downloads

    first, told = True, ""
    for turn in itertools.count():
        try:
            queue.recover() if first else queue.tend()
            first, told = False, ""
            if turn % 300 == 0:
                downloads.sweep()
        except (UserError, OSError) as error:
            if str(error) != told:  # once, not every two seconds
                logging.getLogger("workbench.page").warning("the queue of runs could not be seen to: %s", error)
            told = str(error)
        time.sleep(pause)

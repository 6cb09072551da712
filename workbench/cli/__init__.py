"""The command line: ``python -m workbench VERB ...``, one engine with the page, one folder of runs.

Every verb can say ``--json``: one JSON object on stdout and nothing else, progress and logs on stderr. Exit codes: 0
done; 2 one sentence on stderr says what to mend; 130 interrupted, what was begun can be resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from workbench import __version__, processes
from workbench.cli import data, evaluate, export, house, judge, measure, method, study
from workbench.cli.terminal import print_json, quiet_stdout
from workbench.errors import Stopped, UserError

ABOUT = "See where a language model holds a preference, align it there, and compare the answers."
SHARED_OUT = ("align", "resume")  # verbs that several processes can share
EPILOG = """MODEL is demo, a local folder or a Hub id. PAIRS is demo, demo/VALUE, demo:test, a file or a Hub data set
(org/name:split). RUN is a run's folder, its id, or the beginning of its id."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence like all others."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("python -m workbench").strip()
        message = message.replace("the following arguments are required: ", "missing: ")
        message = message.replace("argument verb: ", "").replace("unrecognized arguments: ", "unknown: ")
        raise UserError(f"{message}; python -m workbench {f'{verb} ' if verb else ''}--help tells what there is.")


def build_parser() -> Parser:
    """The parser of all verbs; loads nothing heavy."""
    parser = Parser(prog="python -m workbench", description=ABOUT, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")

    def verb(name: str, help: str, work, show) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=help, description=help, epilog=EPILOG, parents=[shared], allow_abbrev=False)
        made.set_defaults(work=work, show=show)
        return made

    for group in (data, measure, method, study, house, evaluate, judge, export):
        group.add_verbs(verb)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Never lets an exception's traceback reach the user."""
    set_quiet()
    try:
        with quiet_stdout() as out:
            try:
                with contextlib.redirect_stdout(out):  # --help and --version are answers, not logs
                    options = build_parser().parse_args(arguments)
                if several(options.verb) and not processes.first():
                    from workbench.runs.worker import follow

                    return follow()
                try:
                    result = options.work(options)
                finally:
                    processes.release()
                if options.json:
                    print_json(result, out)
                else:
                    print(options.show(result), file=out, flush=True)
            except BrokenPipeError:  # the reader (head, less) has left
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
                return 0
        return options.exit_code(result) if "exit_code" in options else 0
    except UserError as error:
        return _say(str(error), 2)
    except Stopped as error:
        return _say(str(error), 130)
    except KeyboardInterrupt:
        return _say("Interrupted.", 130)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except Exception as error:
        if os.environ.get("RAHF_DEBUG"):
            raise
        from workbench.runs.worker import sentence

        return _say(sentence(error, "set RAHF_DEBUG=1 to see where"), 2)


def several(verb: str) -> bool:
    """Meet the other processes, where a launcher started several; whether it did. Raises UserError for a verb that they
    cannot share."""
    if processes.launched() and verb not in SHARED_OUT:
        raise UserError(f"Only {' and '.join(SHARED_OUT)} work in several processes: start {verb} in one.")
    processes.join()
    return processes.here().count > 1


def set_quiet() -> None:
    """Ask libraries, before they are loaded, to keep warnings and progress bars to themselves."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():  # a bar drawn into a file is a mess
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _say(sentence: str, code: int) -> int:
    if os.environ.get("RANK", "0") != "0":  # before they met, all processes say the same
        return code
    print(sentence, file=sys.stderr, flush=True)
    return code

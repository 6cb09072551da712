"""The house's rule: imports only go down, and what is heavy is loaded only where it is used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "": 1, "errors": 1, "progress": 1, "pairs": 1, "models": 1, "tokens": 1, "likelihood": 1, "statistics": 1,
    "sites": 1, "processes": 1, "stamp": 1, "jsonfile": 1, "suitability": 1, "tuned": 1, "cache": 1,
    "representations": 2, "acting": 2, "narrow": 2, "generation": 2, "preview": 2, "reading": 2,
    "rahf": 3, "evaluation": 3, "heldout": 3, "capability": 3, "export": 3, "judges": 3, "baselines": 3,
    "runs": 4, "bench": 4,
    "cli": 5, "__main__": 5, "ui": 5,
}  # fmt: skip
PAGE_ONLY = {"gradio", "plotly"}
HEAVY = {"torch", "transformers", "datasets", "sklearn", "peft", "accelerate", "umap"}
MODULES = sorted((ROOT / "workbench").rglob("*.py"))


def imports(tree: ast.AST, package: str, inside: bool = False) -> Iterator[tuple[str, bool, int]]:
    """(imported module, whether only within a function, line) of every import but those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            # Types may be named from below only, like everything; they are just not loaded.
            for name, _, line in imports(ast.Module(node.body, []), package, inside):
                if name.startswith("workbench"):
                    yield name, True, line
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, inside, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield (f"{base}.{alias.name}" if base == "workbench" else base), inside, node.lineno
        within = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from imports(node, package, within)


def room(name: str) -> str:
    """``workbench.runs.store`` is in the room ``runs``."""
    return name.split(".")[1] if "." in name else ""


def name_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    floor = FLOORS.get(room(name))
    assert floor, f"{name} is on no floor: give its room one in this test"
    for imported, inside, line in imports(ast.parse(path.read_text(encoding="utf-8")), package):
        where, top = f"{path.relative_to(ROOT)}:{line}", imported.partition(".")[0]
        if top == "workbench" and room(imported) != "__version__":
            assert FLOORS[room(imported)] <= floor, f"{where} imports upwards: {imported}"
        if top in PAGE_ONLY:
            assert room(name) == "ui", f"{where}: only the page may import {imported}"
        if top == "umap":
            assert inside, f"{where}: umap takes seconds to load, import it in the function that needs it"
        if top in HEAVY and floor >= 4:
            assert inside, f"{where}: import {imported} where it is used, or the door opens slowly"


def test_cli_and_page_do_not_import_each_other():
    for path in MODULES:
        rooms = {room(item) for item, _, _ in imports(ast.parse(path.read_text(encoding="utf-8")), name_of(path))
                 if item.startswith("workbench")}  # fmt: skip
        assert not (room(name_of(path)) == "cli" and "ui" in rooms), path
        assert not (room(name_of(path)) == "ui" and "cli" in rooms), path


CLEAN = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("not here: " + name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
print("fine")
"""


def load(names: list[str], blocked: set[str]) -> str:
    code = CLEAN.format(names=names, blocked=blocked)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def test_the_engine_loads_without_the_page_s_libraries():
    below = [name_of(path) for path in MODULES if FLOORS.get(room(name_of(path)), 5) <= 4 and path.stem != "__main__"]
    assert load(below, {"gradio", "plotly", "umap"}) == "fine"


def test_the_doors_load_nothing_heavy():
    assert load(["workbench.cli", "workbench.runs", "workbench.runs.loading", "workbench.ui"], HEAVY) == "fine"

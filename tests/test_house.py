"""The house rules, enforced: layers, sizes, documentation, and what nodes may not touch."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from labsim.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "labsim"
FILES = sorted(PACKAGE.rglob("*.py"))
NODE_LAYERS = ("nodes", "ldlm", "net", "storage")

LAYERS = [
    {"base", "pure", "fast"},
    {"wire"},
    {"runtime"},
    {"net", "storage"},
    {"ldlm"},
    {"nodes"},
    {"trees"},
    {"scenario", "perf"},
    {"cli", "fuse"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

CONFINED = {
    "zmq": {"net/lnd_zmq.py", "runtime/live.py"},
    "lmdb": {"storage/osd_lmdb.py"},
    "multiprocess": {"runtime/processes.py"},
    "multiprocessing": set(),
    "pickle": set(),
}

FILE_LINES, FUNCTION_LINES, COLUMNS = 500, 60, 100
C_FILE_LINES, C_FUNCTION_LINES = 800, 80
EXCEPTIONS: set[str] = set()
"""Files that may break a size rule; starts empty and stays so."""

BANNED_MODULES = {"time", "random", "threading", "datetime", "secrets", "uuid", "socket"}
BANNED_WORDS = re.compile(
    r"\b(ticket|release_name|tree_name)\b|\bLU-\d+|\b2\.(?:[4-9]|1[0-7])\.\d+"
)


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


ids = [name(path) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_file_imports_only_downward(path: Path) -> None:
    here = layer(path)
    if here in {"__init__", "__main__"}:
        return
    for module in imports(parse(path)):
        parts = module.split(".")
        if parts[0] != "labsim" or len(parts) < 2 or parts[1] not in RANK:
            continue
        assert RANK[parts[1]] <= RANK[here], f"{here} imports {module} from a layer above it"
        same_rank = RANK[parts[1]] == RANK[here] and parts[1] != here
        assert not (same_rank and {parts[1], here} == {"net", "storage"}), module


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    for module in imports(parse(path)):
        root = module.split(".")[0]
        if root in CONFINED:
            assert name(path) in CONFINED[root], f"{module} belongs in {sorted(CONFINED[root])}"
        if root == "simpy":
            assert layer(path) == "runtime", "simpy belongs under runtime/"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_node_kinds_meet_on_the_wire_only(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if parts[0] != "nodes" or len(parts) < 3:
        return
    for module in imports(parse(path)):
        for other in {"client", "mds", "oss", "mgs"} - {parts[1]}:
            assert not module.startswith(f"labsim.nodes.{other}"), module


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_sizes(path: Path) -> None:
    if name(path) in EXCEPTIONS:
        return
    lines = path.read_text().splitlines()
    assert len(lines) <= FILE_LINES
    for number, line in enumerate(lines, start=1):
        assert len(line) <= COLUMNS, f"line {number} has {len(line)} columns"
    for function in functions(parse(path)):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES, f"{function.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_module_says_what_it_is(path: Path) -> None:
    doc = ast.get_docstring(parse(path))
    assert doc, "no docstring"
    assert len(doc.split()) >= 5


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_is_left_open(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert "/work/" not in text


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) in NODE_LAYERS], ids=name)
def test_nodes_touch_only_their_host(path: Path) -> None:
    tree = parse(path)
    for module in imports(tree):
        assert module.split(".")[0] not in BANNED_MODULES, f"{module} in a node"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "environ":
            raise AssertionError("os.environ in a node")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"id", "hash"}, f"{node.func.id}() differs between runs"


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) in NODE_LAYERS], ids=name)
def test_nodes_know_no_release(path: Path) -> None:
    found = BANNED_WORDS.search(path.read_text())
    assert not found, f"'{found and found.group()}' in a node"


def test_no_module_that_nothing_imports() -> None:
    texts = {path: path.read_text() for path in [*FILES, *(ROOT / "scenarios").rglob("*.py")]}
    imported = {module for text in texts.values() for module in imports(ast.parse(text))}
    imported |= {f"labsim.cli.{verb}" for verb in VERBS}
    lazily = "\n".join(texts.values())
    for path in FILES:
        if path.name in {"__init__.py", "__main__.py"}:
            continue
        dotted = "labsim." + name(path).removesuffix(".py").replace("/", ".")
        assert dotted in imported or f'"{dotted}' in lazily, f"nothing imports {dotted}"


def test_no_test_is_skipped_without_a_reason() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute) and node.attr in {"skip", "xfail"}:
                line = path.read_text().splitlines()[node.lineno - 1]
                assert "reason" in line or '("' in line, f"{path.name}:{node.lineno}"


def c_functions(text: str) -> list[tuple[str, int]]:
    """(first line, number of lines) of each function body that opens in column one."""
    found, start, head = [], None, ""
    for number, line in enumerate(text.splitlines()):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            found.append((head, number - start + 1))
            start = None
        elif start is None and line.strip():
            head = line
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "native").rglob("*.[ch]")), ids=lambda path: path.name
)
def test_c_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= C_FILE_LINES
    assert max((len(line.expandtabs(4)) for line in text.splitlines()), default=0) <= COLUMNS
    for head, length in c_functions(text):
        assert length <= C_FUNCTION_LINES, head

"""The import table of DESIGN section 2: imports point downward only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vecfill

ROOT = Path(vecfill.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 250

CORE = {
    *(
        "config",
        "errors",
        "arrow_arrays",
        "blocks",
        "background",
        "bisection",
        "folders",
        "hooks",
        "interruptible",
        "log_fields",
        "postgres",
        "secret",
    ),
    "termination",
    "wording",
}
STAGES = {"read", "encode", "write"}
VERBS = {
    *(
        "adoption",
        "backfill",
        "demo",
        "ledger_status",
        "planning",
        "queue_retry",
        "remembered_failures",
        "table_status",
        "target_tracking",
        "target_untracking",
        "vector_search",
    ),
    "diagnosis",
    "indexing",
    "migration",
    "verification",
    "watching",
}
MAY_IMPORT = {
    **dict.fromkeys(CORE, CORE),
    "job": set(),
    "ledger": CORE,
    **dict.fromkeys(STAGES, CORE | {"job", "ledger"}),
    "engine": CORE | {"job"},
    **dict.fromkeys(VERBS, CORE | STAGES | VERBS | {"engine", "job", "ledger"}),
    "bench": CORE | STAGES | VERBS | {"engine", "job", "ledger"},
    "cli": CORE | STAGES | VERBS | {"engine", "job", "ledger", "bench"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Room → the rooms that it may import, beside itself."""

ENCODE_ROOMS = ("model", "tokens", "device", "library", "native")
"""The rooms of ``encode/`` for local models: each may import those before it."""

DISTINCT = STAGES | {"config", "engine", "postgres", "ledger"}
"""Rooms in which a file's name alone says which file is meant."""

HEAVY = {"torch", "ray", "sentence_transformers", "transformers"}
MAY_BE_HEAVY = {
    "engine/coordinator.py",
    "engine/encoders.py",
    "engine/ray.py",
    "engine/ray_actors.py",
    "encode/device/compute_device.py",
    "encode/device/compute_threads.py",
    "encode/device/device_feed.py",
    "encode/library/flattened_attention.py",
    "encode/library/flattened_pass.py",
    "encode/device/forward.py",
    "encode/device/gathering.py",
    "encode/library/library_strategy.py",
    "encode/native/attention.py",
    "encode/native/native_encoder.py",
    "encode/native/packed_transformer.py",
    "encode/device/packing.py",
    "encode/native/proving.py",
    "encode/native/sentence_vector.py",
    "encode/native/weights.py",
    "encode/library/padded_pass.py",
    "encode/device/precision.py",
    "encode/library/strategy_probe.py",
    "encode/library/token_limit.py",
    "encode/library/transformer.py",
}
"""Files that import torch or Ray when they are imported; all others do so where they need it, if at all."""

PURE = {
    "bench/measure.py",
    "read/queue_units.py",
    "read/units.py",
    "write/copy_binary.py",
    "write/batch_size.py",
    "engine/pools.py",
    "postgres/checks_sql.py",
    "postgres/index_sql.py",
    "postgres/order_sql.py",
    "postgres/migrate_sql.py",
    "postgres/template.py",
    "postgres/queue_put_back_sql.py",
    "postgres/queue_settle_sql.py",
    "postgres/queue_table.py",
    "postgres/queue_table_sql.py",
    "postgres/read_sql.py",
    "postgres/search_sql.py",
    "postgres/selection.py",
    "postgres/staging_sql.py",
    "postgres/target_sql.py",
    "postgres/verify_sql.py",
    "postgres/write_sql.py",
}
"""No I/O here: nothing that connects, opens or waits."""
IMPURE = {
    "psycopg",
    "os",
    "io",
    "pathlib",
    "socket",
    "subprocess",
    "time",
    "vecfill.postgres.session",
    "vecfill.postgres.transaction",
    "vecfill.postgres.database",
}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


def room(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def inside(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements, handlers and cases right inside of one: no expression imports, and most nodes are of those."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        yield from getattr(tree, field, ())


def names_of(node: ast.AST) -> Iterator[str]:
    """Dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import in line {node.lineno}"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are imported anywhere, but for the eyes of the type checker."""
    for node in inside(tree):
        if not isinstance(node, ast.If) or "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from names_of(node)
            yield from imports(node)


def at_import(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are imported when the module is."""
    for node in inside(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from names_of(node)
            yield from at_import(node)


def test_imports_point_downward():
    missing = {own for own in map(room, FILES) if own not in MAY_IMPORT}
    assert not missing, f"{missing} have no line in the table: give them one, here and in DESIGN section 2"
    assert {shown(file): names for file in FILES if (names := upward(file))} == {}, "may not import these rooms"


def upward(file: Path) -> set[str]:
    """The rooms that a file imports and may not."""
    ours = {name.split(".")[1] for name in imports(parsed(file)) if name.startswith("vecfill.")}
    return ours - {room(file), "__version__"} - MAY_IMPORT[room(file)]


@pytest.mark.parametrize("own", ENCODE_ROOMS)
def test_the_rooms_of_local_models_import_downward(own):
    files = (ROOT / "encode" / own).glob("*.py")
    names = {name.split(".")[2] for file in files for name in imports(parsed(file)) if ".encode." in name}
    assert not names & set(ENCODE_ROOMS[ENCODE_ROOMS.index(own) + 1 :])


def module_name(file: Path) -> str:
    return ".".join(("vecfill", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def test_no_import_leads_back_to_its_file():
    """Also by way of imports inside functions: a circle means that two files are one."""
    files = {module_name(file): file for file in FILES}

    def of(name: str) -> str:
        return name if name in files else of(name.rpartition(".")[0])

    graph = {
        module: {of(name) for name in imports(parsed(file)) if name.startswith("vecfill.")} - {module}
        for module, file in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_two_files_of_the_stages_and_the_core_have_one_name():
    names = Counter(file.name for file in FILES if room(file) in DISTINCT and file.name != "__init__.py")
    assert [name for name, files in names.items() if files > 1] == []


def test_torch_and_ray_are_imported_where_they_are_needed():
    heavy = {shown(file): {name.split(".")[0] for name in at_import(parsed(file))} & HEAVY for file in FILES}
    assert {file: names for file, names in heavy.items() if names and file not in MAY_BE_HEAVY} == {}


def test_pure_files_do_no_io():
    found = {file: set(imports(parsed(ROOT / file))) - {"psycopg.sql"} for file in PURE}
    impure = {
        (file, name)
        for file, names in found.items()
        for name in names
        if any(f"{name}.".startswith(f"{one}.") for one in IMPURE)
    }
    assert not impure


def test_contributing_names_every_room():
    page = (ROOT.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [own for own in MAY_IMPORT if not own.startswith("__") and not re.search(f"`{own}[/`]", page)] == []


def test_a_file_holds_one_idea():
    assert [shown(file) for file in FILES if len(file.read_text().splitlines()) > MAX_LINES] == []


def test_everything_but_the_heavy_files_imports_without_torch_and_ray():
    light = [file for file in FILES if str(file.relative_to(ROOT)) not in MAY_BE_HEAVY and file.stem != "__main__"]
    names = [".".join(("vecfill", *file.relative_to(ROOT).with_suffix("").parts)) for file in light]
    script = f"""
import importlib, sys
for name in {[name.removesuffix(".__init__") for name in names]!r}:
    importlib.import_module(name)
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_the_package_alone_imports_none_of_its_modules():
    script = "import sys, vecfill; print(*(name for name in sys.modules if name.startswith('vecfill.')))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""
    assert all(getattr(vecfill, name) is not None for name in vecfill.__all__)

"""Options and report of a test run, and what every test gets: no trace of others, and the command line."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from _pytest.nodeid import coerce_node_id
from tests import own_server
from tests.needs import could_have_run, missing_tool
from tests.traces import loggers_restored, no_trace

from vecfill.cli import main
from vecfill.engine.warm import Warm
from vecfill.postgres import server_programs

pytest_plugins = ["tests.databases"]

# A shared machine stalls at times, and the first example pays for imports: the time of one example says nothing.
hypothesis.settings.register_profile("vecfill", deadline=None, max_examples=40)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1_000)

_RAY, _MODELS, _SLOW = -3, -2, -1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vecfill")
    group.addoption("--pg-version", type=int, default=18, choices=[16, 18], help="version of the embedded server")
    group.addoption("--no-skips", action="store_true", help="a test that is skipped although it could run fails")
    group.addoption("--soak", action="store_true", help="also what takes minutes: a million rows, 1,000 examples")
    group.addoption("--pg-bin", type=Path, help="make the server with the programs in this folder (pgvector installed)")
    group.addoption("--test-dsn", help="use this server (a superuser's DSN; pgvector available), not an embedded one")


def pytest_configure(config: pytest.Config) -> None:
    """Sets the environment of the tests: none of the developer's own databases, and Ctrl-C reaches their processes.

    A shell's job in the background ignores SIGINT, one under ``nohup`` SIGHUP, and so would all that the tests start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    hypothesis.settings.load_profile("soak" if config.getoption("--soak") else "vecfill")
    for name in [name for name in os.environ if name.startswith(("PG", "VECFILL_")) or name == "DATABASE_URL"]:
        del os.environ[name]
    if not hasattr(config, "workerinput"):
        _share_a_cache(config)
    # The workers share two cores: threads of torch that spin while they wait for one another take a third of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _share_a_cache(config: pytest.Config) -> None:
    """Gives this run a cache folder, which all its processes share, so that a model is proven once for all of them.

    Matplotlib keeps its own, whose list of fonts takes seconds to make.
    """
    before = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    os.environ.setdefault("MPLCONFIGDIR", str(before / "matplotlib"))
    folder = tempfile.TemporaryDirectory(prefix="vecfill-tests-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CACHE_HOME"] = folder.name


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spares the quick tests the files that are slow as a whole: their imports (torch, the library) take seconds."""
    if config.getoption("markexpr") != "not slow" or not collection_path.name.startswith("test_"):
        return None
    return True if re.search(r"^pytestmark = .*pytest\.mark\.slow", collection_path.read_text(), re.MULTILINE) else None


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives xdist the long work first: all tests of Ray on one worker, since two Rays are too much for two cores.

    Those of models go to another, since the library takes seconds to import. Other slow tests follow file by file,
    those of one comparison together, then the rest one by one, so that all workers end together.
    """
    if not config.getoption("--soak"):
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    for item in items:
        if "home" in item.fixturenames:  # a server of the test's own
            item.add_marker("slow")
    items.sort(key=_weight)
    if hasattr(config, "workerinput"):
        for item in items:
            if weight := _weight(item):
                # What xdist's mark xdist_group should do: xdist 3.8 sets a name that pytest 9.2 no longer reads.
                item._id = coerce_node_id(f"{item.nodeid}@{_group(item, weight)}")


def pytest_collection_finish() -> None:
    """Keeps heavy imports inside of tests: each worker collects all of them, and few run those that need these."""
    if heavy := {"torch", "transformers", "sentence_transformers", "ray"} & sys.modules.keys():
        names = ", ".join(sorted(heavy))
        raise pytest.UsageError(f"a file of tests imports {names} when it is collected: import it in a test")
    # Each full search for garbage would go through all modules and tests: a twentieth of the time.
    gc.collect()
    gc.freeze()


def _group(item: pytest.Item, weight: int) -> str:
    if weight != _SLOW:
        return {_RAY: "ray", _MODELS: "models"}[weight]
    return "compared" if "compared" in item.fixturenames else item.path.name


def _weight(item: pytest.Item) -> int:
    if not item.get_closest_marker("slow"):
        return 0
    if item.get_closest_marker("ray") or item.path.parent.name == "engine":
        return _RAY
    rooms = item.path.relative_to(item.config.rootpath / "tests").parts
    of_models = item.get_closest_marker("models") or (rooms[0] == "encode" and rooms[1] != "api")
    return _MODELS if of_models else _SLOW


def pytest_report_header(config: pytest.Config) -> str:
    if dsn := config.getoption("--test-dsn"):
        with psycopg.connect(dsn) as connection:
            server, vector = connection.execute(
                "SELECT current_setting('server_version'),"
                " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"
            ).fetchone()
        return f"PostgreSQL {server}, pgvector {vector}, from --test-dsn"
    if folder := config.getoption("--pg-bin"):
        return f"PostgreSQL {own_server.version(folder)}, from --pg-bin"
    return "PostgreSQL {}, pgvector {}, embedded".format(*_embedded_versions(config.getoption("--pg-version")))


def _embedded_versions(version: int) -> tuple[str, str]:
    """Reads the versions from the files: with xdist the process that prints them starts no server."""
    tree = server_programs.installed(version)
    server = re.search(r'PG_VERSION "(.+)"', next(tree.rglob("pg_config.h")).read_text())
    vector = re.search(r"default_version = '(.+)'", next(tree.rglob("vector.control")).read_text())
    return server[1], vector[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if item.config.getoption("--no-skips") and (why := could_have_run(report)):
        report.outcome, report.longrepr = "failed", f"skipped, but --no-skips: {why}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    missing = sorted((tool, report.nodeid) for report in skipped if (tool := missing_tool(report)))
    if missing:
        terminalreporter.section("skipped for want of a tool")
    for tool, test in missing:
        terminalreporter.write_line(f"{test}: {tool}")


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Comes before, and so ends after, every other fixture of the test alone."""
    with no_trace():
        yield


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Ray and its encoders, started by the first test that needs them, for all that are not about starting it."""
    warm = Warm()
    yield warm
    warm.close()


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; anything beside it is an error."""
        return json.loads(self.out)


@pytest.fixture
def vecfill(monkeypatch, capsys):
    """Calls the entry point with these arguments, and leaves the loggers as they were."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vecfill", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return Ended(code, *capsys.readouterr())

    with loggers_restored():
        yield call

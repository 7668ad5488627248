"""The embedded PostgreSQL with pgvector: a server of our own for the demo, the tests and a first look (extra ``demo``).

A *home* holds the data (``pg18/``, with the socket and the log inside, closed to all but the server's user) and a lock
file. One server runs in a home at a time. As root the home must lie where everyone may pass, since the server runs as
another user and no folder's mode is ever widened (see ``programs``).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from vecfill.errors import ConfigError, DatabaseError
from vecfill.postgres import server_programs

_DATABASE = "vecfill"
_PORT = 5432  # names the socket file; part of the URI, or the caller's PGPORT would apply
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_LIMIT = 107  # bytes, sockaddr_un.sun_path on Linux less the closing NUL
_NO_PROCESS = str(2**31 - 1)  # Linux gives numbers up to 2**22
_SECONDS = "60"
_LOG_LINES = 15

_LOCALE = {16: ("--locale=C",), 18: ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")}
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_directories": ".",  # the data folder, wherever it is moved to
    "unix_socket_permissions": "0700",  # every login is trusted: only the server's user and root may reach it
}


@dataclass(frozen=True, kw_only=True)
class _Cluster:
    """One PostgreSQL data folder in a home."""

    home: Path
    version: int

    @property
    def data(self) -> Path:
        return self.home / f"pg{self.version}"

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    @property
    def lock(self) -> Path:
        return self.data / "postmaster.pid"

    def uri(self, database: str = _DATABASE) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.data))}&port={_PORT}"

    def process(self) -> bytes | None:
        """Returns the command line of the process that ``postmaster.pid`` names, None where there is no such."""
        try:
            pid = int(self.lock.read_text().partition("\n")[0])
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def is_running(self) -> bool:
        """Tells whether that process is this cluster's server: after a crash the number may be another's by now.

        /proc/PID/cwd would tell as well, but root without CAP_SYS_PTRACE, as in a container, may not read it.
        """
        command = self.process()
        return command is not None and os.fsencode(self.data) in command.split(b"\0")


def data_home() -> Path:
    """Returns the embedded server's default home: ``VECFILL_HOME``, or one by user.

    That is ``$XDG_DATA_HOME/vecfill``, and ``/var/lib/vecfill`` for root, whose own folder is private (files in
    /var/tmp are swept away after 30 days, also from under a running server).
    """
    if chosen := os.environ.get("VECFILL_HOME"):
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/vecfill")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "vecfill"


def start(version: int = 18, folder: Path | None = None) -> str:
    """Starts the embedded server, or finds it running; it goes on after this process ends.

    Args:
        version: PostgreSQL's major version, 16 or 18; each has data of its own.
        folder: the home to use in place of ``data_home()``.

    Returns:
        The libpq URI of the database ``vecfill``, in which the extension ``vector`` is installed.

    Raises:
        ConfigError: the extra is missing, the home cannot be used, the other version runs there, or the server does
            not start (with the end of its log).
        DatabaseError: it runs but does not answer.
    """
    home = _resolve(folder)
    cluster = _Cluster(home=home, version=version)
    server_programs.installed(version)
    _check_socket_path(cluster.data)
    with _os_errors_named(home), _locked(home):
        running = _running(home)
        if running is None:
            _launch(cluster)
        elif running != cluster:
            raise ConfigError(
                f"PostgreSQL {running.version} is running in {home}, but {version} was asked for: "
                "stop it first with `vecfill db stop`"
            )
        _ensure_database(cluster)
    return cluster.uri()


def url(folder: Path | None = None) -> str:
    """Returns the URI of the running embedded server's database.

    Raises:
        ConfigError: it is not running.
    """
    home = _resolve(folder)
    with _os_errors_named(home):
        cluster = _running(home)
    if cluster is None:
        raise ConfigError(f"no embedded server is running in {home}: start it with `vecfill db start`")
    return cluster.uri()


def stop(folder: Path | None = None) -> bool:
    """Stops the embedded server, rolling back what is in flight; tells whether one was running."""
    home = _resolve(folder)
    with _os_errors_named(home):
        if _running(home) is None:
            return False
        with _locked(home):
            cluster = _running(home)
            if cluster is not None:
                _execute(cluster, "pg_ctl", "stop", "-w", "-t", _SECONDS, "-m", "fast", "-D", str(cluster.data))
    return cluster is not None


def _resolve(folder: Path | None) -> Path:
    """Returns the home as an absolute path, after refusing what would be unsafe or would need a mode widened."""
    home = (folder or data_home()).resolve()
    with _os_errors_named(home):
        if home.exists() and not home.is_dir():
            raise ConfigError(f"{home} is not a folder: set VECFILL_HOME to one")
        if home.exists() and home.stat().st_uid != os.geteuid():
            raise ConfigError(f"{home} belongs to another user: set VECFILL_HOME to a folder of your own")
        if os.geteuid() == 0:
            _check_public(home)
    return home


def _check_public(home: Path) -> None:
    for path in (home, *home.parents):
        if path.exists() and not path.stat().st_mode & stat.S_IXOTH:
            raise ConfigError(
                f"{path} is private (mode {stat.S_IMODE(path.stat().st_mode):04o}), but as root the server runs as "
                f"{server_programs.SYSTEM_USER}, who must pass it to reach {home}: set VECFILL_HOME to a public folder"
            )


def _check_socket_path(data: Path) -> None:
    length = len(os.fsencode(data / _SOCKET))
    if length > _SOCKET_LIMIT:
        raise ConfigError(
            f"the path of a socket in {data} has {length} bytes, but the system's limit is {_SOCKET_LIMIT}: "
            "set VECFILL_HOME to a shorter folder"
        )


@contextmanager
def _os_errors_named(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the embedded server cannot use {home} ({error}): set VECFILL_HOME to another folder"
        ) from error


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Makes the home where it is missing, and keeps our other processes out of it meanwhile."""
    if not home.is_dir():
        # Only new folders get this mask. As root the server's user must pass them, also under a umask of 077.
        umask = 0o022 if os.geteuid() == 0 else 0o077
        subprocess.run(["/bin/mkdir", "-p", str(home)], check=False, capture_output=True, umask=umask)  # noqa: S603
    lock = home / "lock"
    lock.touch(mode=0o600)  # or anyone could hold it
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _running(home: Path) -> _Cluster | None:
    clusters = (_Cluster(home=home, version=version) for version in server_programs.VERSIONS)
    return next((cluster for cluster in clusters if cluster.is_running()), None)


def _launch(cluster: _Cluster) -> None:
    if not (cluster.data / "PG_VERSION").exists():
        _initialise(cluster)
    if cluster.process() is not None:
        _disown(cluster)
    _execute(cluster, "pg_ctl", "start", "-w", "-t", _SECONDS, "-D", str(cluster.data), "-l", str(cluster.log))


def _disown(cluster: _Cluster) -> None:
    """Puts a number that no process has into stale lock files whose number is another process's by now.

    PostgreSQL would take that process for a running server. Without the files it would miss its own check on old
    backends that still use the shared memory, whose key is in there too.
    """
    for file in (cluster.lock, cluster.data / f"{_SOCKET}.lock"):
        if file.exists():
            _replace_first_line(file, _NO_PROCESS)


def _replace_first_line(file: Path, line: str) -> None:
    # The folder is the server user's: root must not follow a link that this user may have put there.
    with os.fdopen(os.open(file, os.O_RDWR | os.O_NOFOLLOW), "r+") as handle:
        lines = [line, *handle.read().split("\n")[1:]]
        handle.seek(0)
        handle.truncate()
        handle.write("\n".join(lines))


def _initialise(cluster: _Cluster) -> None:
    """Makes the data folder under another name first, so that a killed initdb leaves nothing half-made behind."""
    fresh = cluster.data.with_suffix(".new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    if account := server_programs.server_account():
        os.chown(fresh, account.pw_uid, account.pw_gid)
    settings = (argument for name, value in _SETTINGS.items() for argument in ("-c", f"{name}={value}"))
    login = ("-U", "postgres", "-A", "trust", "-E", "UTF8")
    _execute(cluster, "initdb", *login, *_LOCALE[cluster.version], *settings, "-D", str(fresh))
    fresh.rename(cluster.data)


def _execute(cluster: _Cluster, program: str, *arguments: str) -> None:
    done = server_programs.execute(
        server_programs.reachable(cluster.version, cluster.home), cluster.home, program, *arguments
    )
    if done.returncode != 0:
        raise ConfigError(f"{program} failed in {cluster.data}:\n{_tail(done.stdout)}{_log_end(cluster)}")


def _log_end(cluster: _Cluster) -> str:
    if not cluster.log.exists():
        return ""
    return f"\n{cluster.log} ends with:\n{_tail(cluster.log.read_text(errors='replace'))}"


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_LOG_LINES:])


def _ensure_database(cluster: _Cluster) -> None:
    try:
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [_DATABASE]).rowcount
            if not found:
                # template0: template1 cannot be copied while anyone is connected to it
                connection.execute(f"CREATE DATABASE {_DATABASE} TEMPLATE template0")
        with psycopg.connect(cluster.uri(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        raise DatabaseError(f"the embedded server in {cluster.data} does not answer as it should: {error}") from error

"""The folder of the embedded server: which one it is, whether it can be used, and which server runs in it.

A *home* holds a data folder per PostgreSQL version (``pg18/``, with the socket and the log inside; only the server's
user may enter it) and a lock file. One server runs in a home at a time.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vecfill.errors import ConfigError
from vecfill.folders import expanded
from vecfill.postgres import server_programs

DATABASE = "vecfill"
PORT = 5432
"""Part of the socket's file name. The URI names it as well; without it the caller's PGPORT would apply."""

SOCKET = f".s.PGSQL.{PORT}"
_REMEDY = "set VECFILL_HOME to a folder of your own"
_SOCKET_LIMIT = 107  # bytes: sockaddr_un.sun_path on Linux, minus the closing NUL


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One PostgreSQL data folder in a home."""

    home: Path
    version: int

    @property
    def data(self) -> Path:
        """The data folder, which also holds the socket."""
        return self.home / f"pg{self.version}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    @property
    def lock(self) -> Path:
        """PostgreSQL's own lock file, which names the server's process."""
        return self.data / "postmaster.pid"

    def uri(self, database: str = DATABASE) -> str:
        """Returns the libpq URI of a database."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.data))}&port={PORT}"

    def process(self) -> bytes | None:
        """Returns the command line of the process that ``postmaster.pid`` names; None if there is no such process."""
        try:
            pid = int(self.lock.read_text().partition("\n")[0])
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def is_running(self) -> bool:
        """Returns whether that process is this cluster's server: after a crash another process may have its number.

        /proc/PID/cwd would show it as well, but root without CAP_SYS_PTRACE, as in a container, may not read it.
        """
        command = self.process()
        return command is not None and os.fsencode(self.data) in command.split(b"\0")


def data_home() -> Path:
    """Returns the embedded server's default home: ``VECFILL_HOME``, or a folder that depends on the user.

    This is ``$XDG_DATA_HOME/vecfill``, and ``/var/lib/vecfill`` for root: root's own folder is private, and the system
    deletes files in /var/tmp after 30 days, even under a running server.

    Raises:
        ConfigError: it would be in a home folder, and the user has none.
    """
    if chosen := os.environ.get("VECFILL_HOME"):
        return expanded(chosen, _REMEDY)
    if os.geteuid() == 0:
        return Path("/var/lib/vecfill")
    return expanded(os.environ.get("XDG_DATA_HOME") or "~/.local/share", _REMEDY) / "vecfill"


def resolve(folder: Path | None) -> Path:
    """Returns the home as an absolute path.

    Args:
        folder: the home to use instead of ``data_home()``.

    Raises:
        ConfigError: it is not a folder, belongs to another user, or, as root, the server's user cannot reach it.
    """
    home = (folder or data_home()).resolve()
    with os_errors_named(home):
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
                f"user {server_programs.SYSTEM_USER}, which must reach {home}: set VECFILL_HOME to a public folder"
            )


def check_socket_path(data: Path) -> None:
    """Refuses a data folder whose path is too long for a socket.

    Raises:
        ConfigError: it is.
    """
    length = len(os.fsencode(data / SOCKET))
    if length > _SOCKET_LIMIT:
        raise ConfigError(
            f"the path of a socket in {data} has {length} bytes, but the system's limit is {_SOCKET_LIMIT}: "
            "set VECFILL_HOME to a shorter folder"
        )


@contextmanager
def os_errors_named(home: Path) -> Iterator[None]:
    """Turns the system's errors into a ``ConfigError`` that names the home."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the embedded server cannot use {home} ({error}): set VECFILL_HOME to another folder"
        ) from error


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Creates the home if it is missing, and holds a lock that keeps our other processes out of it."""
    if not home.is_dir():
        # The mask applies to new folders only. As root the server's user must pass them, also under a umask of 077.
        umask = 0o022 if os.geteuid() == 0 else 0o077
        subprocess.run(["/bin/mkdir", "-p", str(home)], check=False, capture_output=True, umask=umask)  # noqa: S603
    lock = home / "lock"
    lock.touch(mode=0o600)  # or any user could hold the lock
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def running(home: Path) -> Cluster | None:
    """Returns the cluster whose server runs in the home, if any."""
    clusters = (Cluster(home=home, version=version) for version in server_programs.VERSIONS)
    return next((cluster for cluster in clusters if cluster.is_running()), None)

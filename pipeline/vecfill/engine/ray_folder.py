"""The folder of a Ray cluster that we start: ours alone, and gone when we are. The token of the cluster is in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vecfill.errors import ConfigError
from vecfill.folders import temporary

_PREFIX, _LOCK = "vf-", "lock"
"""Prefix of our Ray folders among the temporary files, and the file in each that its owner locks."""

LONGEST_FOLDER = 24
"""Bytes of the path of the temporary folder: Ray adds about 80 for a socket, and Linux allows 107."""

TOKEN, TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Variables by which Ray gets a token, or the file with it."""


@contextlib.contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder with a short path for Ray, locked while this process lives; first removes those left by ``kill -9``.

    A lock shows that its owner is alive even between containers that share /tmp; a process id does not.

    Raises:
        ConfigError: no folder can be made.
    """
    given = temporary()
    base = given if len(os.fsencode(given)) <= LONGEST_FOLDER else "/tmp"  # noqa: S108 -- in a folder of our own
    for left in Path(base).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), left.open() as lock:
            if left.stat().st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.parent, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        try:
            made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=base, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
            lock = stack.enter_context((folder / "new").open("w"))
        except OSError as error:
            raise ConfigError(
                f"Ray needs a folder for its files: {error}: set TMPDIR to a folder that can be written, with a path "
                f"of at most {LONGEST_FOLDER} bytes"
            ) from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "new").rename(folder / _LOCK)  # from now on other runs check its lock
        yield folder


@contextlib.contextmanager
def own_token(folder: Path, *, joins: bool) -> Iterator[None]:
    """Keeps the token of a cluster that we start in our folder: Ray would write it into the home.

    A token that the user names is taken, as is the one of the home to join a cluster.
    """
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled

    # Not at the end: a thread of Ray that then still asks for the token ends the process.
    AuthenticationTokenLoader.instance().reset_cache()
    if joins or TOKEN in os.environ or TOKEN_PATH in os.environ:
        yield
        return
    path = folder / "token"
    path.write_text(secrets.token_hex(32))
    os.environ[TOKEN_PATH] = str(path)
    try:
        yield
    finally:
        del os.environ[TOKEN_PATH]


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Makes it the current folder; afterwards the one before, or ``/`` if that is gone or closed to this user."""
    try:
        before = os.getcwd()  # noqa: PTH109 -- no path of it is needed
    except FileNotFoundError:
        before = "/"
    os.chdir(folder)
    try:
        yield
    finally:
        try:
            os.chdir(before)
        except OSError:
            os.chdir("/")

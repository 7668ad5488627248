"""``python -m tests.soak``: see ``scripts/soak``."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.driver import Soak


def main() -> None:
    """Soaks one table after the other until the time is over or something is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="repeat the steps of this seed; without it each table has a new one")
    parser.add_argument("--steps", type=int, help="at most so many steps a table")
    parser.add_argument("--each", type=float, default=60.0, help="seconds a table")
    parser.add_argument("--ray", action="store_true", help="every tenth run on Ray")
    parser.add_argument(
        "--pg-bin", type=Path, help="folder of initdb and pg_ctl, with pgvector; else the embedded server's"
    )
    given = parser.parse_args()
    until, wrong = time.monotonic() + 60 * given.minutes, False
    while not wrong and (left := until - time.monotonic()) > 0:
        soak = soaked(secrets.randbelow(10**6) if given.seed is None else given.seed, min(given.each, left), given)
        wrong = bool(soak.faults)
        if given.seed is not None:
            break
    sys.exit(wrong)


def soaked(seed: int, seconds: float, given: argparse.Namespace) -> Soak:
    """Soaks one table in a temporary home, and prints the report."""
    home = Path(tempfile.mkdtemp(prefix="vecfill-soak-", dir="/dev/shm"))
    home.chmod(0o755)  # as root the server runs as another user, who must pass
    print(f"seed {seed}", flush=True)
    soak = Soak(seed, home, ray=given.ray, programs=given.pg_bin)
    try:
        soak.go(seconds, given.steps)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(*soak.report(), sep="\n", flush=True)
    return soak


main()

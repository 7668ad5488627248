"""``kill -9`` of our own process, at each place that makes a difference."""

from __future__ import annotations

import os
import signal

import psycopg


def killed_before_commit(number: int, work) -> bool:
    """Forks a process that does the work and is killed before its commit of this number; False if it made fewer."""
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL)
        return code != 0
    code, commit, commits = 1, psycopg.Connection.commit, iter(range(1, number))

    def commit_or_die(connection):
        if next(commits, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(connection)

    try:
        psycopg.Connection.commit = commit_or_die
        work()
        code = 0
    finally:
        os._exit(code)

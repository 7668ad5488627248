"""A password or key by command: its first line, or one line that says what is wrong and shows nothing of it."""

from __future__ import annotations

import pickle
import shlex
import sys

import pytest

from vecfill import secret
from vecfill.errors import ConfigError, SecretError
from vecfill.secret import secret_from_command


def says(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def asked(command: str) -> str:
    return secret_from_command(command, option="--a-command", what="word")


def test_the_first_line_is_the_secret():
    assert asked(says("print('to ken '); print('more')")) == "to ken "
    assert asked("echo 'a b'") == "a b"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/no/such/program sekret", "--a-command: program cannot be run: No such file or directory: check its"),
        ("TOKEN=sekret aws", "--a-command names no program"),
        ("  ", "--a-command names no program"),
        ("echo 'sekret", "--a-command does not split into words: No closing quotation"),
        ("echo", "--a-command: echo printed no word"),
        (
            says("print('sekret'); raise SystemExit('first\\nno such role')"),
            r"ended with exit code 1 \(no such role\): try",
        ),
        (says("print('sekret'); raise SystemExit(3)"), r"ended with exit code 3: try it by hand"),
        (says("import sys; sys.stdout.buffer.write(b'sekret\\xff')"), "printed output that is not UTF-8"),
    ],
)
def test_a_command_that_gives_none_is_one_line_without_the_secret(command, message):
    with pytest.raises(ConfigError, match=message) as caught:
        asked(command)
    assert "\n" not in str(caught.value)
    assert "sekret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_a_command_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(secret, "TIMEOUT_S", 0.2)
    with pytest.raises(SecretError, match=r"sleep took over 0\.2 s") as caught:
        asked("sleep 60")
    assert caught.value.__cause__ is None

"""No password in what the process shows of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vecfill.cli.mask import masked


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("-d postgresql://u:sekret@h:5432/x", "-d postgresql://u:xxxxxx@h:5432/x"),
        ("--database=postgresql://u:se@k/t@h/x", "--database=postgresql://u:xxxxxx@h/x"),
        (
            "-d postgresql://u@h/x?password=sekret&sslmode=require",
            "-d postgresql://u@h/x?password=xxxxxx&sslmode=require",
        ),
        ("-d postgresql://u@h:5432/x --ray-address a:6379", "-d postgresql://u@h:5432/x --ray-address a:6379"),
        ("-d host=h\tpassword=sekret", "-d host=h\tpassword=xxxxxx"),
        ("-d host=h\tpassword='s\\'ek'\tuser=u", "-d host=h\tpassword=xxxxxxx\tuser=u"),
        ("--password-command echo\tsekret -t jobs", "--password-command xxxxxxxxxxx -t jobs"),
        ("--password-command=sekret -t jobs", "--password-command=xxxxxx -t jobs"),
        ("--text {password} --where a=1", "--text {password} --where a=1"),
    ],
)
def test_passwords_become_crosses_of_the_same_length(given, shown):
    """A blank parts arguments here, a tab stands for a blank inside one."""
    raw = given.replace(" ", "\0").replace("\t", " ").encode() + b"\0"
    assert masked(raw) == shown.replace(" ", "\0").replace("\t", " ").encode() + b"\0"


SHOWN = """
import sys
from vecfill.cli.mask import mask_process
mask_process()
print(sys.argv[1], flush=True)
sys.stdin.readline()
"""


def test_the_list_of_processes_shows_none():
    """What Ray knows of the process is looked at in tests/faults/test_secrets.py."""
    command = [sys.executable, "-c", SHOWN, "postgresql://u:sekret@h/x", "--where", "true"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "postgresql://u:sekret@h/x\n"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        process.communicate("\n")
    assert shown[-4:] == [b"postgresql://u:xxxxxx@h/x", b"--where", b"true", b""]

"""What a terminal shows while a run goes on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
SHOW_A_BAR_THEN_LOG = """
import logging, sys
from vecfill.backfill.drain import Progress
from vecfill.backfill.tally import Tally
from vecfill.cli.progress import shown

logger = logging.getLogger("vecfill")
logger.addHandler(logging.StreamHandler())
with shown(quiet=False) as update:
    update(Progress(done=1, eligible=2, sweep=1, tally=Tally(), workers={"read": 1, "encode": 1, "write": 1}))
    sys.stdin.readline()
    logger.warning("a line of the log")
logger.warning("a line after the bar")
"""


def test_a_log_line_stands_above_the_bar_on_a_line_of_its_own():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SHOW_A_BAR_THEN_LOG]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        output = read_until(ours, b"limited by: ")  # the bar is drawn
        process.stdin.write(b"\n")
        process.stdin.close()
        output += read_until(ours, b"a line after the bar")
    os.close(ours)
    assert process.returncode == 0
    lines = [line.strip() for line in re.split(rb"[\r\n]+", CONTROL.sub(b"", output))]
    assert lines.count(b"a line of the log") == lines.count(b"a line after the bar") == 1
    assert [line for line in lines if re.fullmatch(rb"embedding .* 1/2 .*limited by: \w+", line)]


def read_until(terminal, text):
    shown = b""
    while text not in shown:
        shown += os.read(terminal, 65536)
    return shown

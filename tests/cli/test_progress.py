"""What a terminal shows while a run goes on: on a real pseudo-terminal, with a screen that obeys its cursor."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from tests.tables import make_docs

WIDE, NARROW = 80, 40
TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
LOG = "a line of the log that is longer than any of these terminals is wide: " + "whole " * 12 + "end"
RUN = f"""
import logging, sys
from vecfill.backfill.progress import Progress
from vecfill.backfill.tally import Tally
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.progress import shown
from vecfill.config.output import Output

log_to_stderr(Output())
tally = Tally()
tally.begin_sweep().counts["updated"] = 12_345
tally.seconds |= {{"encode": 9.0, "write": 1.0}}
rows = 12_345
with shown(quiet=False) as update:
    update(Progress(step="survey"))
    for _ in sys.stdin:
        rows += 1
        event = Progress(done=12_345, eligible=17_269, sweep=1, tally=tally,
                         workers={{"read": 1, "encode": 1, "write": 1}}, reached=lambda: (rows, 12_345))
        update(event)
        logging.getLogger("vecfill").warning("%s", {LOG!r})
    logging.getLogger("vecfill").warning("last")
"""


class Screen:
    """Lines as a terminal shows them that moves its cursor, but is wide enough for every line."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        self.raw = ""

    def feed(self, text: str) -> None:
        self.raw += text
        for argument, command, control, words in TOKEN.findall(text):
            if control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif words:
                line = self.lines[self.row].ljust(self.column)
                self.column += len(words)
                self.lines[self.row] = line[: self.column - len(words)] + words + line[self.column :]
            elif command == "A":
                self.row -= int(argument or 1)
            elif command == "K":
                self.lines[self.row] = "" if argument == "2" else self.lines[self.row][: self.column]


class Terminal:
    """The command on a pseudo-terminal: its stderr, and a pipe for its steps."""

    def __init__(self, columns: int, **environment: str) -> None:
        self._fd, theirs = pty.openpty()
        self.resize(columns)
        self.screen = Screen()
        given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE,
            stderr=theirs,
            env={**given, "TERM": "xterm", **environment},
            text=True,
        )
        os.close(theirs)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def step(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def until(self, pattern: str) -> str:
        """The first line of the screen that matches, once there is one."""
        while not (found := [line for line in self.screen.lines if re.search(pattern, line)]):
            self.screen.feed(os.read(self._fd, 65_536).decode())
        return found[-1].rstrip()

    def end(self) -> list[str]:
        with self._process:
            self._process.stdin.close()
            self.until("^last$")
            try:
                while data := os.read(self._fd, 65_536):
                    self.screen.feed(data.decode())
            except OSError:  # the terminal's other end is closed
                pass
        os.close(self._fd)
        assert self._process.returncode == 0
        return [line.rstrip() for line in self.screen.lines if line.strip()]


@pytest.mark.parametrize(
    ("columns", "environment", "bar"),
    [
        (WIDE, {}, r"^embedding ━{8,} 12,34\d/17,269 limited by: encode$"),
        (NARROW, {}, r"^━{8,} 12,34\d/17,269$"),
        (WIDE, {"NO_COLOR": "1"}, r"^embedding ━+ +12,34\d/17,269 limited by: encode$"),
    ],
)
def test_the_bar_fits_the_terminal_and_log_lines_stand_above_it_whole(columns, environment, bar):
    terminal = Terminal(columns, **environment)
    terminal.until("start-up: survey")
    terminal.step()
    assert len(terminal.until(bar)) < columns
    terminal.step()
    lines = terminal.end()
    assert lines[:3] == [LOG, LOG, "last"]
    assert re.search("12,345/17,269", lines[3])
    assert len(lines) == 4
    assert bool(re.search(r"\x1b\[[0-9;]*[39][0-9]m", terminal.screen.raw)) == (not environment)


def test_the_bar_follows_a_resize():
    terminal = Terminal(WIDE)
    terminal.step()
    assert NARROW < len(terminal.until("embedding .*12,346/17,269")) < WIDE
    terminal.resize(NARROW)
    terminal.step()
    assert len(terminal.until("^━.* 12,347/17,269")) < NARROW
    terminal.end()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    terminal = Terminal(WIDE, TERM="dumb")
    terminal.step()
    assert terminal.end() == [LOG, "last"]
    assert "\x1b" not in terminal.screen.raw


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_progress_is_a_line_of_the_log_where_no_person_looks(connect, database, vecfill, monkeypatch, log_format):
    monkeypatch.setattr("vecfill.cli.progress.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("vecfill.cli.progress.LOOK_EVERY_S", 0.001)
    make_docs(connect, 3_000)
    ended = vecfill(
        *("run", "-d", database, "-t", "docs", "--text", "title", "-m", "hash:8", "--engine", "inline"),
        *("--log-format", log_format, "--max-rate", "20000"),
    )
    assert ended.code == 0
    if log_format == "text":
        assert re.search(r"^[\d,]+ of 3,000 rows \(\d+%\)", ended.err, re.MULTILINE)
        return
    found = [json.loads(line) for line in ended.err.splitlines()]
    seen = [one for one in found if one.get("event") == "progress"]
    assert seen[-1]["eligible"] == 3_000
    assert {"done", "rows_per_s", "seconds_left", "limited_by"} <= seen[-1].keys()

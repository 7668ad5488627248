"""``vecfill demo`` as a stranger starts it: the whole of it, twice, and the commands that it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

from vecfill.cli import demo as module
from vecfill.cli.demo import demo
from vecfill.demo.story import MODEL
from vecfill.encode.load import load_model
from vecfill.postgres import embedded

ROWS = 300


def play(home, *arguments):
    """As a user whose HOME cannot be written, nor made."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "vecfill", "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**environ, "VECFILL_HOME": str(home), "HOME": "/dev/null/x"},
        cwd="/",
    )


def table(home):
    with psycopg.connect(embedded.url(home)) as connection:
        return connection.execute("SELECT id, title, company, embedding::real[] FROM jobs ORDER BY id").fetchall()


def assert_vectors_are_the_models(rows):
    """As the encoder gives them, which ``tests/encode`` compares with the library's."""
    wanted = load_model(MODEL).encode([f"{title} at {company}" for _, title, company, _ in rows], 2_048).vectors
    found = np.array([vector for *_, vector in rows], dtype=np.float32)
    assert np.abs(found - wanted).max() <= 1e-5


def printed_commands(output):
    """The lines below each comment of the last part."""
    lines = output[output.index("Yours to play with") :].splitlines()
    return [line for before, line in pairwise(lines) if before.startswith("#")]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_the_whole_of_it(home, vecfill, monkeypatch, warm):
    """First as a process; then on Ray, and quietly, in this one, which has loaded the libraries by then."""
    done = play(home, "--rows", str(ROWS), "--engine", "inline")
    assert done.returncode == 0, done.stderr
    rows = table(home)
    assert len(rows) == ROWS
    assert_vectors_are_the_models(rows)
    assert 'null value in column "title" of relation "jobs" violates not-null constraint' in done.stdout
    assert "23502" in done.stdout
    assert f"complete: {ROWS - ROWS // 5} updated" in done.stdout
    assert done.stderr.count("engine: inline") == 2

    monkeypatch.setenv("VECFILL_HOME", str(home))
    assert_commands_work(printed_commands(done.stdout), vecfill)

    warm.cluster(None, verbose=False)
    warm.free()  # the demo has encoders of its own, which wait for cores that others hold
    on_ray = vecfill("demo", "--rows", "50")
    assert on_ray.code == 0, on_ray.err
    assert ("engine: inline" in on_ray.err, "engine: ray" in on_ray.err) == (True, True)
    assert len(table(home)) == 50
    assert_vectors_are_the_models(table(home))

    again = vecfill("demo", "--rows", "20", "--engine", "inline", "--quiet")
    assert (again.code, again.err) == (0, "")
    assert len(table(home)) == 20


def assert_commands_work(commands, vecfill):
    """One after the other, as if pasted; one that would wait for input is given none.

    A shell only splits the words of those that load the model: this process, which has torch by then, calls them.
    """
    export, *commands = commands
    assert shell(f'{export}\nprintf %s "$VECFILL_HOME"') == os.environ["VECFILL_HOME"]
    assert commands.pop().endswith(" db stop")
    told = ""
    for command in commands:
        words = shell(f"printf '%s\\0' {command}").split("\0")[:-1]
        if {"search", "run"} & set(words):
            ended = vecfill(*words[words.index("vecfill") + 1 :])
            assert ended.code == 0, ended.err
            told += ended.out
        else:
            told += shell(f"{export}\n{command}")
    emptied = next(int(line.split()[1]) for line in told.splitlines() if line.startswith("UPDATE "))
    assert emptied
    assert f"complete: {emptied} updated" in told


def shell(script):
    environ = {name: value for name, value in os.environ.items() if name != "VECFILL_HOME"}
    command = ["bash", "-euc", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environ, stdin=subprocess.DEVNULL, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A command ``vecfill`` in ``bin/`` of the current folder, as it was started."""
    path = tmp_path / "a b" / "bin" / "vecfill"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.chdir(path.parent.parent)
    monkeypatch.setattr(sys, "argv", [str(path)])
    return path


def test_the_command_is_called_by_its_name_where_path_has_it(program, monkeypatch):
    monkeypatch.setenv("PATH", str(program.parent))
    assert module._program() == "vecfill"


def test_the_command_is_called_by_its_path_where_path_has_another(program, monkeypatch, tmp_path):
    (tmp_path / "vecfill").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._program() == "bin/vecfill"


@pytest.mark.parametrize(("folder", "called"), [("bin", "./vecfill"), ("..", "'a b/bin/vecfill'"), ("/usr", "'{}'")])
def test_the_path_is_short_and_works_from_here(program, monkeypatch, folder, called):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(folder)
    assert module._program() == called.format(program)


@pytest.mark.parametrize("arguments", [["--rows", "0"], ["--rows", "x"], ["--engine", "spark"]])
def test_a_wrong_option_is_a_usage_error(arguments):
    assert CliRunner().invoke(demo, arguments).exit_code == 2


def test_help():
    done = CliRunner().invoke(demo, ["--help"])
    assert done.exit_code == 0
    assert "vecfill demo --rows 2000" in done.output

"""Commands after a run: what they get, and that no fault of theirs changes the run."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.faults.processes import vecfill as process_of
from tests.tables import make_docs, wait_until

from vecfill.config.hooks import HookOptions
from vecfill.hooks import run_hooks

ENDED = {"run_id": "r", "table": "public.docs", "outcome": "complete", "exit_code": 0}
FAILED = {"table": "public.docs", "error": "no such\0column", "exit_code": 2}


def given(database, *more):
    return ("run", "-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8", "--engine", "inline", *more)


@pytest.mark.parametrize(("ended", "called"), [(ENDED, ["end"]), (FAILED, ["end", "fail"])])
def test_a_command_gets_the_result_and_its_facts(tmp_path, ended, called):
    facts = "printenv | grep ^VECFILL_RUN_"
    options = HookOptions(
        on_end=f"cd {tmp_path}; cat > end.json; {facts} > end", on_fail=f"cd {tmp_path}; {facts} > fail"
    )
    run_hooks(options, ended)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*called, "end.json"])
    assert json.loads((tmp_path / "end.json").read_text()) == ended
    found = dict(line.split("=", 1) for line in (tmp_path / called[-1]).read_text().splitlines())
    names = {key: f"VECFILL_RUN_{key.removeprefix('run_').upper()}" for key in ended}
    facts = {names[key]: str(value).replace("\0", "") for key, value in ended.items()}
    assert found == {"VECFILL_RUN_OUTCOME": "failed", **facts}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 7", "ended with exit code 7;"),
        ("/no/such/program sekret", "ended with exit code 127, as it was not found;"),
        ("kill -9 $$", "ended with signal 9;"),
        ("trap '' TERM; sleep 30 & wait; sleep 30", "took over 0.2 s and was killed: raise --hook-timeout"),
    ],
)
def test_a_fault_of_a_command_is_said_without_the_command(command, said, caplog, monkeypatch):
    monkeypatch.setattr("vecfill.hooks.GRACE_S", 0.1)
    run_hooks(HookOptions(on_fail=f"{command} # sekret", hook_timeout=0.2 if "sleep" in command else 60), FAILED)
    (message,) = caplog.messages
    assert message.startswith("the --on-fail command ")
    assert (said in message, "sekret" in message) == (True, False)


def test_a_command_that_reads_nothing_is_no_fault(caplog):
    run_hooks(HookOptions(on_end="exec <&-"), {**ENDED, "quarantine": ["x" * 1_000] * 1_000})
    assert caplog.messages == []


def test_its_output_goes_to_stderr(capfd):
    run_hooks(HookOptions(on_end="echo out; echo err >&2"), ENDED)
    assert capfd.readouterr() == ("", "out\nerr\n")


@pytest.fixture
def noted(tmp_path):
    """A command that notes each call, and a function that returns what it noted."""
    file = tmp_path / "noted"
    file.touch()
    return f"cat >> {file}; echo >> {file}", lambda: [json.loads(line) for line in file.read_text().splitlines()]


def test_it_runs_after_a_run_that_ended_failed_or_did_not_start(connect, database, vecfill, noted):
    command, calls = noted
    make_docs(connect, 3)
    ended = vecfill(*given(database, "--json", "--on-end", command, "--on-fail", "exit 1"))
    assert (ended.code, calls()) == (0, [ended.json])
    refused = vecfill(*given(database, "--json", "--where", "no_such_column", "--on-fail", command))
    assert (refused.code, calls()[1]["exit_code"], calls()[1]["error"]) == (2, 2, refused.json["error"])
    nowhere = vecfill(*given("postgresql://nobody@127.0.0.1:1/x", "--on-fail", command, "--hook-timeout", "9"))
    assert (nowhere.code, "cannot connect" in calls()[2]["error"], calls()[2]["table"]) == (2, True, "docs")
    wrong = vecfill("run", "-t", "docs", "-d", database, "--on-fail", command)
    assert (wrong.code, "--text is missing" in calls()[3]["error"]) == (2, True)


def test_it_runs_after_each_target_of_a_file(connect, database, vecfill, noted, tmp_path):
    command, calls = noted
    make_docs(connect, 3)
    file = tmp_path / "two.toml"
    file.write_text(
        f"database = {database!r}\nmodel = 'hash:8'\ntext = '{{title}}'\non_end = {command!r}\n"
        "[[target]]\ntable = 'docs'\n[[target]]\ntable = 'nowhere'\n"
    )
    ended = vecfill("run", "--config", str(file), "--json")
    assert calls() == ended.json["targets"]
    assert [call["exit_code"] for call in calls()] == [0, 2]


@pytest.mark.slow
def test_a_signal_during_a_command_ends_it_and_keeps_the_result(connect, database, tmp_path):
    make_docs(connect, 3)
    file = tmp_path / "pid"
    with process_of(database, "--engine", "inline", "--on-end", f"echo $$ > {file}; sleep 60; exit 3") as process:
        wait_until(lambda: file.exists() and file.read_text().strip())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, json.loads(out)["updated"]) == (0, 3)
    assert "the --on-end command was ended by a signal; nothing else changes" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_a_command_gets_no_secret_that_was_not_there(connect, database, vecfill, tmp_path):
    make_docs(connect, 1)
    file = tmp_path / "env"
    assert vecfill(*given(f"{database}&password=sekret", "--on-end", f"env > {file}; cat >> {file}")).code == 0
    assert "sekret" not in file.read_text()

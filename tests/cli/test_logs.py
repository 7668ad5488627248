"""The log on stderr: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from tests.tables import make_docs

from vecfill.cli.logs import JsonFormatter, TextFormatter
from vecfill.log_fields import WithFields, in_context, logged_with

RUN = ("--text", "{title}", "-m", "hash:8", "--engine", "inline")


def record(message="%d rows of %s", *values, **extra):
    made = logging.LogRecord("vecfill.somewhere", logging.WARNING, __file__, 1, message, values, None)
    vars(made).update(extra)
    return made


def test_a_record_is_one_line_with_its_fields(tmp_path):
    fields = json.loads(JsonFormatter().format(record("%d rows\nof %s", 3, "ö", table="public.docs", path=tmp_path)))
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "WARNING",
        "logger": "vecfill.somewhere",
        "message": "3 rows\nof ö",
        "table": "public.docs",
        "path": str(tmp_path),
    }
    assert "\n" not in JsonFormatter().format(record("a\nb"))


def test_a_line_of_text_names_its_target_where_there_are_several():
    line = record("filled", target="public.docs")
    assert [TextFormatter("%(message)s", with_target=several).format(line) for several in (False, True)] == [
        "filled",
        "public.docs: filled",
    ]
    named = record("public.docs is filled", target="public.docs")
    assert TextFormatter("%(message)s", with_target=True).format(named) == "public.docs is filled"
    assert TextFormatter("%(message)s", with_target=True).format(record("of all")) == "of all"


def test_lines_carry_the_fields_of_their_work_into_other_threads():
    line, other = record("a"), record("b", target="docs")
    with logged_with(target="public.docs", run_id="1"):
        call = in_context(lambda: [WithFields().filter(one) for one in (line, other)])
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert (line.target, line.run_id, other.target) == ("public.docs", "1", "public.docs")  # one name of a target
    WithFields().filter(bare := record("c"))
    assert not hasattr(bare, "target")


def test_a_traceback_is_a_field():
    made = record("failed")
    try:
        raise ValueError("why")
    except ValueError as error:
        made.exc_info = type(error), error, error.__traceback__
    fields = json.loads(JsonFormatter().format(made))
    assert fields["traceback"].endswith("ValueError: why")


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_run_logs_json_and_prints_its_result_as_before(connect, database, vecfill, *, monkeypatch, tmp_path, source):
    make_docs(connect, 3)
    file = tmp_path / "vecfill.toml"
    file.write_text('log_format = "json"\n' if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("VECFILL_LOG_FORMAT", "json")
    flag = ("--log-format", "json") if source == "flag" else ()
    ended = vecfill("run", "-d", database, "-t", "docs", *RUN, *flag, "--config", str(file))
    assert (ended.code, "complete: 3 updated" in ended.out) == (0, True)
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    assert any(line["message"].startswith("engine: inline") for line in lines)


def test_errors_are_records_too(connect, database, vecfill):
    ended = vecfill("run", "-d", database, "-t", "nowhere", *RUN, "--log-format", "json")
    (line,) = ended.err.splitlines()
    fields = json.loads(line)
    assert (ended.code, fields["level"], fields["error"], fields["exit_code"]) == (2, "ERROR", "ConfigError", 2)
    assert fields["message"].startswith("--table nowhere")
    assert vecfill("run", "-d", database, "-t", "nowhere", *RUN).err.startswith("vecfill: --table nowhere")


def test_an_error_of_one_target_names_its_table(connect, database, vecfill, tmp_path):
    make_docs(connect, 3)
    file = tmp_path / "vecfill.toml"
    file.write_text(f'database = "{database}"\n[[target]]\ntable = "nowhere"\n[[target]]\ntable = "docs"\n')
    ended = vecfill("status", "--config", str(file), "--log-format", "json")
    (line,) = [json.loads(line) for line in ended.err.splitlines() if '"ERROR"' in line]
    assert (line["table"], line["exit_code"], ended.code) == ("nowhere", 2, 2)


def test_a_format_that_is_none_is_refused(vecfill):
    ended = vecfill("status", "--log-format", "xml")
    assert (ended.code, ended.err) == (2, "vecfill: --log-format 'xml': input should be 'text' or 'json'\n")

"""The answers of docs/what-if.md: each command is run in its situation, and prints what the page says it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.tables import another
from tests.test_docs import commands

import vecfill as package

PAGE = Path(package.__file__).parents[2] / "docs" / "what-if.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))

JOBS = (
    "CREATE TABLE jobs (id bigint PRIMARY KEY, title text NOT NULL, company text NOT NULL,"
    " created_at timestamptz NOT NULL DEFAULT now(), embedding vector(384));"
    "INSERT INTO jobs SELECT n, 'job ' || n, 'a company' FROM generate_series(1, 20) AS n;"
)
FAILS = "ALTER TABLE jobs ADD CONSTRAINT short CHECK (embedding IS NULL OR id <> 7)"
EDITED = "UPDATE jobs SET title = 'new ' || id WHERE id <= 3"
OLD_EDITS = f"{EDITED}; UPDATE vecfill.change_1 SET at = now() - interval '3 hours'"
HELD = (
    "UPDATE vecfill.target SET holder = 'x', holder_name = 'ada@node1, process 71', held_since = now(),"
    " held_until = now() + interval '20 s'"
)
WORKING = (
    "UPDATE vecfill.run SET outcome = NULL, exit_code = NULL, finished = NULL;"
    "UPDATE vecfill.target SET holder = (SELECT id FROM vecfill.run), holder_name = 'ada@node1, process 71',"
    " held_since = now(), held_until = now() + interval '20 s'"
)
DIED = (
    "UPDATE vecfill.run SET outcome = NULL, exit_code = NULL, finished = NULL;"
    "UPDATE vecfill.target SET holder = 'x', holder_name = 'ada@node1, process 71', held_since = now(),"
    " held_until = now()"
)
ORIGIN = (
    "CREATE TABLE embedding_queue (job_id bigint PRIMARY KEY REFERENCES jobs, status text, error_message text);"
    "INSERT INTO embedding_queue SELECT id, 'failed',"
    """ 'null value in column "title" of relation "jobs" violates not-null constraint' FROM jobs"""
)
OVERWRITTEN = "UPDATE jobs SET embedding = (SELECT embedding FROM jobs WHERE id = 9) WHERE id = 8"
UNSEEN = "ALTER TABLE jobs DISABLE TRIGGER USER; UPDATE jobs SET title = 'unseen' WHERE id = 11"
LOCK = "LOCK jobs IN ACCESS EXCLUSIVE MODE"
MANY = "INSERT INTO jobs SELECT n, 'job ' || n, 'a company' FROM generate_series(21, 1200) AS n"
ALL_EDITED = "ANALYZE jobs; UPDATE jobs SET title = 'new ' || id"
TRACK, RUN = ("track",), ("run",)

STATES: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "Searches find nothing new": (ORIGIN,),
    "The run is slow": (TRACK, RUN, WORKING),
    "The database is slow because of a run": (TRACK, RUN, WORKING),
    "The next run should spare the server": (TRACK,),
    "Somebody asks how long it takes, and what it costs": (),
    "A row fails": (FAILS, TRACK),
    "The model changes": (TRACK, RUN, EDITED),
    "The text of many rows changes at once": (MANY, TRACK, RUN, ALL_EDITED),
    "The disk fills": (),
    "The server is restored from a backup": (TRACK, RUN, OVERWRITTEN, UNSEEN),
    "Two people start it": (TRACK, RUN, HELD),
    "The queue grows": (TRACK, RUN, OLD_EDITS),
    "The watcher or the machine of a run is gone": (TRACK, RUN, DIED),
    "A migration locks the table": (LOCK,),
    "All of it should stop and go away": (TRACK, RUN),
}
"""What happened before the commands of a section: statements, and commands."""


def test_every_question_has_its_situation():
    assert list(SECTIONS) == list(STATES)


@pytest.fixture
def cron(database, tmp_path, monkeypatch):
    """The working folder of the page, with its file; the environment names another database and model."""
    monkeypatch.chdir(tmp_path)
    Path("cron.toml").write_text(block(TEXT, "toml"), encoding="utf-8")
    for name, value in {"DATABASE_URL": database, "VECFILL_MODEL": "hash:384", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("cron")
@pytest.mark.parametrize("question", STATES)
def test_the_commands_print_what_the_page_says(question, connect, database, vecfill):
    connect.execute(JOBS)
    with another(database) as holder:
        for step in STATES[question]:
            if isinstance(step, tuple):
                assert vecfill(*step, "--config", "cron.toml").code == 0
            else:
                (holder if step == LOCK else connect).execute(step)
        ended = [vecfill(*other_model(words)) for words in commands(block(SECTIONS[question], "bash"))]
    printed = [plain(line) for one in ended for line in (one.err + one.out).splitlines()]
    for line in block(SECTIONS[question], "text").splitlines():
        pattern = ".*".join(map(re.escape, plain(line).split("…")))
        assert any(re.fullmatch(pattern, one) for one in printed), (line, printed)


def block(text: str, language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


def plain(line: str) -> str:
    return " ".join(line.split())


def other_model(words: list[str]) -> list[str]:
    """The command with a stand-in for another model: of another fingerprint, but of the same dimension."""
    if "--model" not in words:
        return words
    at = words.index("--model")
    return [*words[:at], "--truncate-dim", "384", *words[at + 2 :]]

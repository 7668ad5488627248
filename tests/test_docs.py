"""The documentation is true: links, commands, settings, tests and messages are checked against the code."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
from psycopg import conninfo, sql

import vecfill as package
from vecfill.cli import VERBS
from vecfill.cli import vecfill as command_line
from vecfill.config.settings import OPTIONS, Settings
from vecfill.postgres import server_programs

SOURCE = Path(package.__file__).parent
ROOT = SOURCE.parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
OF_DOCKER = {
    "--gpus",
    "--init",
    "--network",
    "--read-only",
    "--shm-size",
    "--stop-timeout",
    "--tmpfs",
    "--user",
    "--workdir",
}

TABLES = """
CREATE TABLE jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text NOT NULL, company text NOT NULL,
  description text, status text DEFAULT 'open', updated_at timestamptz, embedding vector(384));
INSERT INTO jobs (title, company) SELECT 'nurse ' || n, 'a hospital' FROM generate_series(1, 150) AS n;
CREATE INDEX jobs_near ON jobs USING hnsw (embedding vector_cosine_ops);
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."order" (id int PRIMARY KEY, title text, vec vector(384));
INSERT INTO "Odd Schema"."order" VALUES (1, 'a lamp');
CREATE TABLE documents (tenant_id int NOT NULL, document_id bigint NOT NULL, title text, body text,
  embedding vector(384), UNIQUE (tenant_id, document_id));
INSERT INTO documents VALUES (1, 1, 'a title', 'a body'), (1, 2, 'another', NULL);
CREATE TABLE articles (id int, year int, title text, embedding vector(384), PRIMARY KEY (id, year))
  PARTITION BY LIST (year);
CREATE TABLE articles_2025 PARTITION OF articles FOR VALUES IN (2025);
CREATE TABLE articles_2026 PARTITION OF articles FOR VALUES IN (2026);
INSERT INTO articles SELECT n, 2025 + n % 2, 'article ' || n FROM generate_series(1, 20) AS n;
CREATE INDEX articles_near ON articles USING hnsw (embedding vector_cosine_ops);
CREATE TABLE notes (name text, body text, embedding vector(384));
INSERT INTO notes VALUES ('first', 'a body');
"""
"""The tables of the how-tos, as a user may have them."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str, mark: str = "") -> list[str]:
    """The page's fenced blocks of this language; with a mark, only those after a line with the mark."""
    fence = rf"^{mark}```{language}\n(.*?)^```$"
    return re.findall(fence, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", prose(page))
    gone = [path for path, _ in links if not (page.parent / path).exists()]
    lost = [
        (path, heading)
        for path, heading in links
        if heading and heading not in anchors(page.parent / path if path else page)
    ]
    assert (gone, lost) == ([], [])


def test_every_page_is_linked_from_the_readme():
    text = GUIDES[0].read_text(encoding="utf-8")
    assert [page.name for page in GUIDES[1:] if f"(docs/{page.name})" not in text] == []


def test_the_readme_is_read_in_five_minutes():
    text = GUIDES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) < 1400


def test_the_picture_is_small_and_shows_what_the_demos_page_shows():
    picture = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<[^>]+>", "\n", picture)).replace("\N{NO-BREAK SPACE}", " ")
    (transcript,) = blocks(ROOT / "docs" / "demo.md", "text")
    assert len(picture.encode()) < 100_000
    for line in re.findall(r"^(?:complete: .+|    0\.\d+ .+)$", transcript, re.MULTILINE):
        assert line in shown


# ------------------------------------------------------------------------------------------------ commands and settings


def commands(block: str) -> Iterator[list[str]]:
    """The words of each call of vecfill in a shell block, from the verb on."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        reader = shlex.shlex(line, posix=True, punctuation_chars=True)
        reader.whitespace_split = True
        for word in [*reader, ";"]:
            if re.fullmatch(r"[;|&<>()]+", word):
                yield from calls(words)
                words = []
            elif word != "…":
                words.append(word)


def calls(words: list[str]) -> Iterator[list[str]]:
    for at, (program, verb) in enumerate(pairwise(words)):
        if Path(program).name == "vecfill" and verb in (*VERBS, "-h", "--help", "--version"):
            yield words[at + 1 :]
            return


def verb_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words call, and its arguments."""
    command: click.Command = command_line
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, words[0]
        command, words = inner, words[1:]
    return command, words


CALLS = [
    pytest.param([words for block in blocks(page, "bash") for words in commands(block)], id=name(page))
    for page in PAGES
]


def test_calls_are_found_among_other_words():
    block = (
        "A=… x/vecfill run --json \\\n  -t 'a b' >> f # vecfill run -x\ndocker run -v b vecfill status | cat; vecfill 1"
    )
    assert list(commands(block)) == [["run", "--json", "-t", "a b"], ["status"]]
    assert sum(len(calls_of.values[0]) for calls_of in CALLS) > 30


@pytest.mark.parametrize("calls_of", CALLS)
def test_calls_are_understood(calls_of):
    for words in calls_of:
        assert_it_is_understood(words)


def assert_it_is_understood(words: list[str]) -> None:
    command, rest = verb_of(words)
    try:
        given = command.make_context("vecfill", rest).params
    except click.exceptions.Exit:
        return  # --help
    Settings.load({key: value for key, value in given.items() if key in OPTIONS})


def flags(command: click.Command) -> set[str]:
    own = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    inner = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
    return own.union(*(flags(command.get_command(click.Context(command), one)) for one in inner))


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_flags_that_are_named_exist(page):
    named = set(re.findall(r"`(--[a-z-]+)", prose(page)))
    assert named - flags(command_line) - OF_DOCKER == set()


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_files_that_are_shown_load(page, tmp_path):
    for text in blocks(page, "toml"):
        file = tmp_path / "shown.toml"
        file.write_text(text, encoding="utf-8")
        for settings in Settings.load_all({}, file):
            settings.need("table", "text", "model")


# ----------------------------------------------------------------------------------------------------- what is promised


def test_the_tests_of_the_guarantees_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    there = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 50
    assert set(named) - there == set()


def shapes() -> set[str]:
    """Every string of the source, with … for its variable parts."""
    nodes = (node for file in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return {shape(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)}


def shape(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return re.sub(r"%(?:\.\d+)?[sdfg]", "…", str(node.value)) if isinstance(node, ast.Constant) else ""


def test_the_messages_of_troubleshooting_are_those_of_the_source():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [text.removesuffix("…") for text in re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)]
    source = shapes()
    assert len(quoted) > 80
    assert [text for text in quoted if not any(one.startswith(text) for one in source)] == []


# --------------------------------------------------------------------------------------------- what is marked as tested


@pytest.fixture
def environ(database, connect, request, tmp_path):
    """A shell's environment with ``vecfill``, ``psql`` and the tables."""
    connect.execute(TABLES)
    (tmp_path / "vecfill").write_text(f'#!/bin/sh\nexec {sys.executable} -m vecfill "$@"\n')
    (tmp_path / "vecfill").chmod(0o755)
    tools = server_programs.installed(request.config.getoption("--pg-version")) / "bin"
    yield {**os.environ, "PATH": f"{tmp_path}:{tools}:{os.environ['PATH']}", "DATABASE_URL": database}
    if connect.execute("SELECT 1 FROM pg_roles WHERE rolname = 'filler'").fetchone():
        connect.execute(sql.SQL("DROP OWNED BY filler; DROP ROLE filler"))


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "how-to.md", "bash", "<!-- tested -->\n"))
def test_what_the_how_tos_say_works(block, environ, tmp_path):
    as_filler = shlex.quote(conninfo.make_conninfo(environ["DATABASE_URL"], user="filler"))
    script = block.replace("sentence-transformers/all-MiniLM-L6-v2", "hash:384")
    script = script.replace("postgresql://filler@db.example.com/app", as_filler)
    command = ["bash", "-euo", "pipefail", "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr


STAND_INS = {
    "sentence-transformers/all-MiniLM-L6-v2 --revision v2": "hash:384:v2",
    "sentence-transformers/all-MiniLM-L6-v2": "hash:384",
    "BAAI/bge-base-en-v1.5": "hash:768",
}


TEXTS = {"jobs": "{title} at {company}", "articles": "title"}


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "model-change.md", "bash", "<!-- tested -->\n"))
def test_what_is_said_about_a_change_of_the_model_works(block, connect, environ, vecfill, monkeypatch):
    """In this process: a dozen commands for each block would take a minute, each in a process of its own."""
    database = environ["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL", database)
    for model, stand_in in STAND_INS.items():
        block = block.replace(model, stand_in)
    table = re.search(r"--table public\.(\w+)", block)[1]
    if "filler" not in block:
        target = ("--table", table, "--text", TEXTS[table])
        assert [vecfill(*verb, *target).code for verb in (["track"], ["run", "--model", "hash:384"])] == [0, 0]
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("export "):
            monkeypatch.setenv("DATABASE_URL", conninfo.make_conninfo(database, user="filler"))
        for words in commands(line):
            ended = vecfill(*words)
            assert ended.code == 0, (words, ended.err)
        if line.startswith("psql "):
            words = shlex.split(line.replace(r"\$", "$"))
            for sql_text in [after for word, after in pairwise(words) if word == "-c"]:
                connect.execute(sql_text)

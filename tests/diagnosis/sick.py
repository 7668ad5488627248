"""What the tests of ``doctor`` share: how to ask it, and the job board that it was made for."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import click
import psycopg

from vecfill import Diagnosis, DoctorOptions, Finding, Model, Target, doctor
from vecfill.cli import vecfill as command_line

JOBS = Target(table="public.jobs", text="{title} at {company}")
UPSERT = (
    "INSERT INTO jobs (id, embedding, updated_at) VALUES (job, vec, now())"
    " ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding"
)
NOT_NULL = 'null value in column "title" of relation "jobs" violates not-null constraint'


def findings(found: Diagnosis, name: str) -> list[Finding]:
    """The findings of this name."""
    return [one for one in found.findings if one.name == name]


def severities(found: Diagnosis, *without: str) -> dict[str, str]:
    """The findings that are not ok, by name; not that of the version of the tests' own pgvector."""
    left_out = {*without, "pgvector-version"}
    return {one.name: one.severity for one in found.findings if one.severity != "ok" and one.name not in left_out}


def examiner(database: str, target: Target, model: Model | None = None) -> Callable[..., Diagnosis]:
    """Examines the same target again and again, without the measurement unless that is asked for."""

    def examine(*, measure: bool = False) -> Diagnosis:
        return doctor(target, model, database=database, options=DoctorOptions(measure=measure))

    return examine


def understood(found: Diagnosis) -> list[str]:
    """The verbs of the commands among the remedies, each of which the command line understands."""
    lines = [shlex.split(line) for one in found.findings for line in one.remedy if line.startswith("vecfill ")]
    for _, verb, *arguments in lines:
        command_line.get_command(click.Context(command_line), verb).make_context(verb, arguments)
    return sorted({line[1] for line in lines})


def make_board(connect: psycopg.Connection, *, errors: str = NOT_NULL) -> None:
    """The board of the origin in small: 323 jobs, 70 with a vector; its queue has tasks that failed, stay or lie."""
    connect.execute(
        "CREATE TABLE jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text NOT NULL, company text NOT NULL,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),"
        " embedding vector(8));"
        "INSERT INTO jobs (title, company, created_at, embedding) SELECT 'job ' || n, 'a company',"
        " now() - interval '90 days' + n * interval '4 hours', CASE WHEN n <= 70 THEN '[1,2,3,4,5,6,7,8]'::vector END"
        " FROM generate_series(1, 323) AS n;"
        "CREATE TABLE embedding_queue (id bigserial PRIMARY KEY, job_id uuid NOT NULL REFERENCES jobs,"
        " status text NOT NULL DEFAULT 'pending', error_message text, created_at timestamptz DEFAULT now(),"
        " updated_at timestamptz DEFAULT now());"
    )
    connect.execute(
        "INSERT INTO embedding_queue (job_id, status, error_message, created_at, updated_at) SELECT id,"
        " CASE WHEN n <= 72 THEN 'completed' WHEN n <= 172 THEN 'failed' WHEN n <= 175 THEN 'processing'"
        " ELSE 'pending' END, CASE WHEN n BETWEEN 73 AND 172 THEN nullif(%s, '') END, created_at, created_at"
        " FROM (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM jobs) AS numbered",
        [errors],
    )

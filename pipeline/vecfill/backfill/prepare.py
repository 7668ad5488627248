"""The first half of a run: introspect, check, survey and forecast. Nothing is written, and no engine is started."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace

from vecfill.backfill import checks, index_choice, order, pacing, tracked_checks
from vecfill.backfill.forecast import confirm
from vecfill.backfill.intent import Intent, RunIntent
from vecfill.backfill.job_parts import forecast_of, job_of, stored_sample
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.startup import StartupTimes
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import Fingerprint, fingerprint_of
from vecfill.encode.model.model_location import is_local
from vecfill.encode.model.prompts import prompt_line
from vecfill.engine.choice import gpu_count
from vecfill.ledger.lease import Lease
from vecfill.ledger.registry import Tracked, find_tracked
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import TABLE_CHANGED
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import check_queue_table, with_queue_table
from vecfill.postgres.relation import Relation
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.selection import Selection, selection_of
from vecfill.postgres.session import Session
from vecfill.read.queue_table_source import QueueTableSource
from vecfill.read.source import TableSource
from vecfill.read.tracked import TrackedSource

log = logging.getLogger(__name__)


def prepare(
    session: Session,
    target: Target,
    model: Model,
    options: RunOptions,
    *,
    lease: Lease | None = None,
    consent: Callable[[str], bool] = lambda _: False,
) -> Prepared:
    """Checks a run and counts its work.

    Args:
        session: to the target's database.
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        options: limits of the run.
        lease: is taken if the target is tracked, for the caller to give back; None works without one.
        consent: called if the forecast exceeds a limit and ``options.yes`` is not set; True starts the run.

    Raises:
        ConfigError: something cannot work as given, or consent was refused.
        LeaseError: another run works on this tracked target.
        ServerGoneError: the server did not recover.
    """
    prepared = surveyed(session, target, model, options, RunIntent(lease))
    if prepared.tracked:
        index_choice.say_waiting(session, prepared.tracked.waiting)
    if not prepared.before.open:
        return prepared
    if line := session.interruptible(lambda: prompt_line(model)):  # may ask the hub
        log.info("%s", line, extra={"model": model.name})
    ahead, excess = forecast_of(prepared, options)
    ahead, to_drop = index_choice.with_indexes(
        *(session, prepared.relation, prepared.tracked, options, ahead),
        total=prepared.before.total,
        model_rows_per_s=job_of(prepared, (), options).encode.rows_per_s(gpu_count()),
    )
    confirm(ahead, prepared.relation.table.label, consent, options, excess)
    session.run(lambda connection: order.log_sort(connection, prepared.source, prepared.found, options.limit))
    sample = stored_sample(prepared, options)
    prepared.startup.done("survey")
    if to_drop:
        relation = index_choice.without(prepared.relation, to_drop)
        prepared = replace(prepared, relation=relation, source=prepared.source.at(relation), to_drop=to_drop)
    return replace(prepared, job=job_of(prepared, sample, options), forecast=ahead)


def surveyed(session: Session, target: Target, model: Model, options: RunOptions, intent: Intent) -> Prepared:
    """Inspects and surveys the target, and checks which models made its vectors; without a job.

    Args:
        session: to the target's database.
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        options: limits of the run.
        intent: what is to become of the target.

    Raises:
        As ``prepare``.
    """
    prepared = _surveyed(session, target, model, options, intent)
    if tracked := prepared.tracked:
        with intent.obstacle():
            session.run(
                lambda connection: tracked_checks.check_models(
                    connection,
                    tracked,
                    prepared.source,
                    prepared.found,
                    model=model,
                    options=options,
                    note=intent.note_model,
                )
            )
    return prepared


def _surveyed(session: Session, target: Target, model: Model, options: RunOptions, intent: Intent) -> Prepared:
    """Inspects and surveys the target; once more if another session changed it in between."""
    startup = StartupTimes()
    fingerprint = functools.cache(lambda: session.interruptible(lambda: fingerprint_of(model)))  # may ask the hub

    def look() -> tuple[Relation, Tracked | None, TableSource]:
        relation, tracked, selection = session.run(
            lambda connection: _inspected(connection, target, options, fingerprint, intent)
        )
        source = TableSource(
            session=session, relation=relation, selection=selection, order=order.keys(options.order_by)
        )
        if tracked:
            whole = options.audit or options.select == "all"
            settling = selection if options.select == "all" else selection_of(target, "changed")
            source = TrackedSource.of(source, tracked, settling, whole=whole)
        elif relation.queue is not None:
            source = QueueTableSource.of(source, selection_of(target))
        return relation, tracked, source

    relation, tracked, source = look()
    try:
        found = intent.survey(source)
    except TABLE_CHANGED:
        relation, tracked, source = look()
        found = intent.survey(source)
    coverage = found.coverage
    checks.suggest_index(relation, source.selection, coverage.missing + coverage.empty)
    if is_local(model) or coverage.open:
        relation = session.interruptible(lambda: checks.settle_dimension(relation, model))  # may ask the hub
        source = source.with_dimension(relation.table.vector.dim)
    return Prepared(
        target=target, relation=relation, tracked=tracked, model=model, source=source, found=found, startup=startup
    )


def _inspected(
    connection: Connection,
    target: Target,
    options: RunOptions,
    fingerprint: Callable[[], Fingerprint],
    intent: Intent,
) -> tuple[Relation, Tracked | None, Selection]:
    relation = inspect(connection, target)
    with intent.obstacle():
        checks.check_writable(relation)
    tracked = find_tracked(connection, relation, target)
    tracked_checks.check_select(relation, tracked, options)
    tracked_checks.check_one_queue(tracked, target)
    relation = with_queue_table(connection, relation, target)
    with intent.obstacle():
        check_queue_table(connection, relation)
    selection = selection_of(target, (options.select or "changed") if tracked else None, queue=relation.queue)
    if tracked:
        with intent.obstacle():
            tracked_checks.check_rights(connection, tracked.relation)
        tracked = intent.take(connection, tracked, fingerprint())
        relation = tracked.relation
        tracked_checks.warn_not_watched(tracked)
    intent.check(connection, relation, selection)
    order.check_order(connection, relation, selection, order.keys(options.order_by))
    pacing.check_pause_query(connection, options.write_limits)
    check_visible(connection, relation)
    checks.warn_no_row_can_miss(relation, selection)
    checks.warn_known_problems(connection, relation, standbys=options.write_limits.watches_standbys)
    return relation, tracked, selection

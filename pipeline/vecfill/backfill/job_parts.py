"""What follows from a survey: the forecast, the sample of stored vectors, and the job."""

from __future__ import annotations

from vecfill.backfill import tracked_checks
from vecfill.backfill.forecast import Forecast, forecast
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.stored_sample import Sample, draw_sample
from vecfill.config.run import RunOptions
from vecfill.encode.model.model_location import portable
from vecfill.encode.stage import EncodeSpec
from vecfill.job import Job
from vecfill.postgres.update_effects import update_effects
from vecfill.write.sink import TableSink


def forecast_of(prepared: Prepared, options: RunOptions) -> tuple[Forecast, str | None]:
    """Forecasts the cost for the server; also returns what else needs confirmation, if anything does."""
    relation = prepared.relation
    effects = prepared.source.session.run(lambda connection: update_effects(connection, relation))
    excess = tracked_checks.excess_of_changes(prepared.tracked, options, prepared.before)
    return forecast(relation, prepared.found, effects, options.limit), excess


def stored_sample(prepared: Prepared, options: RunOptions) -> Sample:
    """Draws stored vectors for the model to make again, unless the ledger tells whose they are."""
    coverage, source = prepared.before, prepared.source
    if not coverage.filled or not tracked_checks.needs_sample(prepared.tracked, options, coverage):
        return ()
    return source.session.run(
        lambda connection: draw_sample(connection, prepared.relation, source.selection, scanned=not coverage.estimated)
    )


def job_of(prepared: Prepared, sample: Sample, options: RunOptions) -> Job:
    """Returns the job for the engine."""
    source, relation = prepared.source, prepared.source.relation
    encode = EncodeSpec(
        model=portable(prepared.model),
        dim=relation.table.vector.dim,
        arity=relation.table.arity,
        sample=sample,
        column=f"{relation.table.label}.{relation.table.vector.name}",
        allow_mixed=options.allow_mixed,
        dedupe=options.dedupe,
    )
    sink = TableSink(
        database=source.session.database, relation=relation, selection=source.selection, limits=options.write_limits
    )
    return Job(source=source, encode=encode, sink=sink)

"""``vecfill plan``: what a run would do, by the selection and the statements of a run."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vecfill.backfill.forecast import check_confirmed
from vecfill.backfill.index_choice import with_indexes
from vecfill.backfill.job_parts import forecast_of, job_of, stored_sample
from vecfill.backfill.prepare import surveyed
from vecfill.backfill.prepared import Prepared
from vecfill.backfill.tracked_checks import needs_sample
from vecfill.config.model import Model
from vecfill.config.plan import PlanOptions
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.api.prices import STALE_DAYS, PriceTable, load
from vecfill.encode.stage import EncodeSpec
from vecfill.encode.tokens.declared_tokens import declared_tokens
from vecfill.engine.choice import gpu_count
from vecfill.errors import ConfigError
from vecfill.planning.intent import PlanIntent
from vecfill.planning.rate import assumed, measured, recorded
from vecfill.planning.record import ApiCost, Rate, RunPlan, TextEstimate, TokenEstimate
from vecfill.planning.resources import resources_of
from vecfill.planning.texts import estimate_texts, sample_texts
from vecfill.planning.tokens import api_costs, estimate_tokens
from vecfill.postgres.database import Database
from vecfill.postgres.selection import CHANGED, EMPTIED, UNKNOWN
from vecfill.postgres.session import open_session


def plan(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: RunOptions | None = None,
    estimates: PlanOptions | None = None,
    kept: MutableMapping[str, Any] | None = None,
) -> RunPlan:
    """Tells what ``run`` with the same arguments would do; writes nothing, and needs SELECT only.

    Args:
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        database: connection string; None takes libpq's environment.
        options: limits and engine of the run; None takes the defaults.
        estimates: how to estimate; None takes the defaults.
        kept: lets several measured plans load a model only once.

    Returns:
        The plan. A run that would not start is a plan too: check ``refusals``.

    Raises:
        ConfigError: a setting cannot work, also for a plan.
        VecfillError: the target could not be counted.
    """
    options, estimates = options or RunOptions(), estimates or PlanOptions()
    if model.is_api and estimates.measure:
        raise ConfigError(f"--measure would send texts to the API of model {model.name}, which costs: leave it out")
    prices, intent = load(estimates.prices), PlanIntent()
    with open_session(database) as session:
        prepared = surveyed(session, target, model, options, intent)
        return _Planning(
            prepared=prepared,
            options=options,
            estimates=estimates,
            prices=prices,
            intent=intent,
            kept={} if kept is None else kept,
        ).plan()


@dataclass(kw_only=True)
class _Planning:
    """Makes the parts of one plan."""

    prepared: Prepared
    options: RunOptions
    estimates: PlanOptions
    prices: PriceTable
    intent: PlanIntent
    kept: MutableMapping[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows to embed."""
        open_rows = self.prepared.before.open
        return min(open_rows, self.options.limit or open_rows)

    def plan(self) -> RunPlan:
        """Returns the plan."""
        work = self._work() if self.rows else {}
        prepared, states = self.prepared, self.prepared.found.states
        refusals = tuple(self.intent.refusals)
        return RunPlan(
            table=prepared.relation.table.label,
            model=prepared.model.name,
            rows=self.rows,
            reasons={reason: states.get(reason, 0) for reason in prepared.source.selection.reasons},
            cleared=states.get(EMPTIED, 0) if prepared.tracked else 0,
            left=self._left(),
            before=prepared.before,
            tracked=prepared.tracked is not None,
            row_security=prepared.relation.access.policies,
            refusals=refusals,
            notes=tuple(self.notes),
            exit_code=refusals[0].exit_code if refusals else 0,
            **work,
        )

    def _left(self) -> dict[str, int]:
        before, tracked, reasons = self.prepared.before, self.prepared.tracked, self.prepared.source.selection.reasons
        changed, unknown = self.prepared.found.states.get(CHANGED, 0), before.unknown or (tracked and tracked.unknown)
        left = {"empty": before.empty, "failed": before.failed}
        left |= {} if CHANGED in reasons else {"changed": changed}
        left |= {} if UNKNOWN in reasons else {"unknown": unknown or 0}
        return {reason: rows for reason, rows in left.items() if rows}

    def _work(self) -> dict[str, Any]:
        """The parts of a plan that has rows to embed."""
        prepared, options = self.prepared, self.options
        ahead, excess = forecast_of(prepared, options)
        with self.intent.obstacle():
            ahead, _ = with_indexes(
                *(prepared.source.session, prepared.relation, prepared.tracked, options, ahead),
                total=prepared.before.total,
                model_rows_per_s=job_of(prepared, (), options).encode.rows_per_s(gpu_count()),
                measure=False,
            )
            check_confirmed(ahead, lambda _: False, options, excess)
        sample = sample_texts(prepared, self.estimates.sample, options.limit)
        texts = estimate_texts(sample, self.rows) if sample.num_rows else None
        if texts is None:
            self.notes.append("no text could be read for a sample: texts and tokens are not estimated")
        tokens = self._tokens(sample, texts)
        stored = stored_sample(prepared, options) if self.estimates.measure else ()
        encode = job_of(prepared, stored, options).encode
        assert isinstance(encode, EncodeSpec)  # noqa: S101
        rate, resources = self._rate(encode, sample, texts, tokens), None
        with self.intent.obstacle():
            resources = resources_of(encode, options.engine, self.rows)
        return {
            "texts": texts,
            "tokens": tokens,
            "rate": rate,
            "seconds": self.rows / rate.rows_per_s,
            "forecast": ahead,
            "resources": resources,
            "apis": self._apis(tokens),
        }

    def _tokens(self, sample: pa.Table, texts: TextEstimate | None) -> TokenEstimate | None:
        model = self.prepared.model
        try:
            declared = declared_tokens(model)
        except ConfigError as error:
            self.notes.append(f"tokens are not counted: {error}")
            return None
        if declared is None:
            self.notes.append(f"tokens are not counted: the files of model {model.name} have no tokenizer.json")
        if declared is None or texts is None:
            return None
        with self.intent.obstacle():
            declared = declared.by_windows(model)
        computed = texts.distinct if self.options.dedupe else self.rows
        return estimate_tokens(declared, sample["text"].to_pylist(), rows=self.rows, computed=computed)

    def _rate(
        self, encode: EncodeSpec, sample: pa.Table, texts: TextEstimate | None, tokens: TokenEstimate | None
    ) -> Rate:
        prepared, found = self.prepared, None
        before = prepared.before
        if not self.estimates.measure and before.filled and needs_sample(prepared.tracked, self.options, before):
            self.notes.append(
                "whether this model made the existing vectors is not checked: --measure does, and so does a run"
            )
        shared = self.rows / texts.distinct if self.options.dedupe and texts else 1.0
        if self.estimates.measure and texts:
            per_s, detail = measured(encode, sample, self.intent, self.kept)
            rate = Rate(rows_per_s=per_s * shared, source="measured", detail=detail)
        else:
            if tracked := prepared.tracked:
                session, name = prepared.source.session, prepared.model.name
                found = session.run(lambda connection: recorded(connection, tracked.relation, name))
            per_s, detail = found or assumed(encode, tokens)
            rate = Rate(
                rows_per_s=per_s if found else per_s * shared, source="run" if found else "assumed", detail=detail
            )
        return _within(rate, self.options.write_limits.max_rate)

    def _apis(self, tokens: TokenEstimate | None) -> tuple[ApiCost, ...]:
        if tokens is None:
            return ()
        if stale := [price for price in self.prices.api if price.stale()]:
            days = max(price.age_days() for price in stale)
            self.notes.append(
                f"{len(stale)} API prices are up to {days} days old, over {STALE_DAYS}: check them, or give --prices"
            )
        return api_costs(self.prices, self.prepared.model, tokens.total)


def _within(rate: Rate, most: float | None) -> Rate:
    if most is None or rate.rows_per_s <= most:
        return rate
    return Rate(
        rows_per_s=most, source=rate.source, detail=f"--max-rate; without it {rate.rows_per_s:,.0f} by {rate.detail}"
    )

"""The metrics of a watch, for Prometheus. Collecting reads what is in memory; it runs no SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vecfill import __version__
from vecfill.blocks import OUTCOMES
from vecfill.watching.health import Health
from vecfill.watching.target_state import AWAY, ENDED, STANDBY, STARTING, WATCHING, TargetState

PHASES = STARTING, WATCHING, STANDBY, AWAY, ENDED

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Values by the labels beside target and model; None where there is none."""


@dataclass(frozen=True)
class Declared:
    """A metric of each target: its name, kind, help, further labels, and where its values are."""

    name: str
    kind: type[CounterMetricFamily | GaugeMetricFamily]
    help: str
    labels: tuple[str, ...]
    values: Callable[[TargetState], Values]


def _one(value: Callable[[TargetState], float | None]) -> Callable[[TargetState], Values]:
    return lambda state: [((), value(state))]


def _share(state: TargetState) -> float | None:
    return None if state.coverage is None else state.coverage.percent / 100


METRICS = (
    Declared(
        "vecfill_rows",
        CounterMetricFamily,
        "Rows by outcome; a row that is read again counts again.",
        ("outcome",),
        lambda state: [((outcome,), state.rows[outcome]) for outcome in OUTCOMES],
    ),
    Declared("vecfill_tokens", CounterMetricFamily, "Tokens before truncation.", (), _one(lambda s: s.tokens)),
    Declared(
        "vecfill_stage_seconds",
        CounterMetricFamily,
        "Seconds of work by stage.",
        ("stage",),
        lambda state: [((stage,), state.seconds[stage]) for stage in ("read", "encode", "write")],
    ),
    Declared("vecfill_drains", CounterMetricFamily, "Drains that found rows to fill.", (), _one(lambda s: s.drains)),
    Declared(
        "vecfill_errors",
        CounterMetricFamily,
        "Errors that interrupted the watch of the target, by class.",
        ("error",),
        lambda state: [((name,), count) for name, count in list(state.errors.items())],
    ),
    Declared(
        "vecfill_queue_entries",
        GaugeMetricFamily,
        "Entries of the queue at the last look; without a queue 1 if a row may need a vector, else 0.",
        (),
        _one(lambda s: s.queued),
    ),
    Declared(
        "vecfill_queue_oldest_seconds",
        GaugeMetricFamily,
        "Age of the oldest entry of the queue at the last look; 0 if it was empty.",
        (),
        _one(lambda s: s.oldest_s),
    ),
    Declared(
        "vecfill_coverage_ratio",
        GaugeMetricFamily,
        "Share of the rows with a vector at the last survey; an estimate for big tables.",
        (),
        _one(_share),
    ),
    Declared(
        "vecfill_failed_rows", GaugeMetricFamily, "Rows set aside because they failed.", (), _one(lambda s: s.failed)
    ),
    Declared(
        "vecfill_last_success_timestamp_seconds",
        GaugeMetricFamily,
        "When the target was last seen to be up to date.",
        (),
        _one(lambda s: s.succeeded_at),
    ),
    Declared(
        "vecfill_lease_held",
        GaugeMetricFamily,
        "1 if this process holds the lease of a tracked target, else 0.",
        (),
        _one(lambda s: None if s.lease is None else float(s.lease)),
    ),
    Declared(
        "vecfill_target_phase",
        GaugeMetricFamily,
        "1 for the phase of the target: starting, watching, standby (another process holds the lease), away, ended.",
        ("phase",),
        lambda state: [((phase,), float(state.phase == phase)) for phase in PHASES],
    ),
    Declared(
        "vecfill_waiting",
        GaugeMetricFamily,
        "1 while the work waits, with what for: the server, replication, a pause.",
        ("reason",),
        lambda state: [((reason,), 1.0)] if (reason := state.waiting()) else [],
    ),
)


class WatchCollector(Collector):
    """Makes the metrics of a watch from its state."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yields every metric, also those without a value."""
        yield InfoMetricFamily("vecfill_build", "The version at work.", value={"version": __version__})
        for one in METRICS:
            family = one.kind(one.name, one.help, labels=("target", "model", *one.labels))
            for state in self._health.targets:
                for labels, value in one.values(state):
                    if value is not None:
                        family.add_metric((state.target, state.model, *labels), value)
            yield family


def registry_of(health: Health) -> CollectorRegistry:
    """Returns a registry of its own: the one that all libraries share is not ours."""
    registry = CollectorRegistry()
    registry.register(WatchCollector(health))
    return registry

"""vecfill fills the embedding column of a PostgreSQL table with a local model, and accounts for every row.

>>> from vecfill import Model, Target, run
>>> result = run(
...     Target(table="public.jobs", text="{title} at {company}"),
...     Model(name="sentence-transformers/all-MiniLM-L6-v2"),
...     database="postgresql://localhost/app",
... )  # doctest: +SKIP

``run`` fills, ``plan`` tells what a run would do, ``track`` has it refresh what changes too, ``watch`` does so until it
is stopped, ``search`` finds the rows nearest to a text, ``status`` counts, ``verify`` compares, ``doctor`` examines,
``start_migration``, ``run_migration`` and their like move a tracked target to another model.
``vecfill.__all__`` has every name that their signatures use. Every error that vecfill raises on purpose is a
``VecfillError``; the tree is in
``vecfill.errors``. The log goes to the logger ``vecfill``, which is silent until a program adds a handler.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecfill.adoption import Adoption as Adoption
    from vecfill.backfill.forecast import Forecast as Forecast
    from vecfill.backfill.forecast import IndexForecast as IndexForecast
    from vecfill.backfill.progress import Progress as Progress
    from vecfill.backfill.result import RunResult as RunResult
    from vecfill.backfill.row_report import Report as Report
    from vecfill.backfill.run import run as run
    from vecfill.blocks import UnwrittenRow as UnwrittenRow
    from vecfill.config.api import ApiOptions as ApiOptions
    from vecfill.config.doctor import DoctorOptions as DoctorOptions
    from vecfill.config.engine import EngineOptions as EngineOptions
    from vecfill.config.hooks import HookOptions as HookOptions
    from vecfill.config.limits import WriteLimits as WriteLimits
    from vecfill.config.migrate import IndexOptions as IndexOptions
    from vecfill.config.migrate import LockOptions as LockOptions
    from vecfill.config.migrate import MigrateOptions as MigrateOptions
    from vecfill.config.migrate import SwapOptions as SwapOptions
    from vecfill.config.model import Model as Model
    from vecfill.config.plan import PlanOptions as PlanOptions
    from vecfill.config.queue_options import QueueOptions as QueueOptions
    from vecfill.config.retry import RetryOptions as RetryOptions
    from vecfill.config.run import RunOptions as RunOptions
    from vecfill.config.target import Target as Target
    from vecfill.config.track import TrackOptions as TrackOptions
    from vecfill.config.verify import VerifyOptions as VerifyOptions
    from vecfill.config.watch import WatchOptions as WatchOptions
    from vecfill.diagnosis.examination import doctor as doctor
    from vecfill.diagnosis.finding import Diagnosis as Diagnosis
    from vecfill.diagnosis.finding import Finding as Finding
    from vecfill.encode.api.budget import Account as Account
    from vecfill.encode.encoder import Encoder as Encoder
    from vecfill.encode.encoding import Encoding as Encoding
    from vecfill.encode.load import load_model as load_model
    from vecfill.engine.warm import Warm as Warm
    from vecfill.errors import BudgetError as BudgetError
    from vecfill.errors import ConfigError as ConfigError
    from vecfill.errors import DatabaseError as DatabaseError
    from vecfill.errors import EncodeError as EncodeError
    from vecfill.errors import EngineError as EngineError
    from vecfill.errors import LeaseError as LeaseError
    from vecfill.errors import MixedModelsError as MixedModelsError
    from vecfill.errors import PartialRunError as PartialRunError
    from vecfill.errors import ReadOnlyError as ReadOnlyError
    from vecfill.errors import SecretError as SecretError
    from vecfill.errors import ServerGoneError as ServerGoneError
    from vecfill.errors import StoppedError as StoppedError
    from vecfill.errors import TableLockedError as TableLockedError
    from vecfill.errors import TooSlowError as TooSlowError
    from vecfill.errors import UnreachableError as UnreachableError
    from vecfill.errors import VecfillError as VecfillError
    from vecfill.indexing.rebuilding import RebuiltIndex as RebuiltIndex
    from vecfill.job import Stop as Stop
    from vecfill.ledger.recorded_runs import Holder as Holder
    from vecfill.ledger.recorded_runs import RunRecord as RunRecord
    from vecfill.ledger_status import LedgerStatus as LedgerStatus
    from vecfill.migration.ending import MigrationEnded as MigrationEnded
    from vecfill.migration.ending import abandon_migration as abandon_migration
    from vecfill.migration.ending import finish_migration as finish_migration
    from vecfill.migration.exchange import MigrationSwapped as MigrationSwapped
    from vecfill.migration.fill import MigrationRun as MigrationRun
    from vecfill.migration.fill import run_migration as run_migration
    from vecfill.migration.index_build import BuiltIndex as BuiltIndex
    from vecfill.migration.obstacles import Obstacle as Obstacle
    from vecfill.migration.own_search import OwnSearches as OwnSearches
    from vecfill.migration.rollback import roll_back_migration as roll_back_migration
    from vecfill.migration.start import MigrationStarted as MigrationStarted
    from vecfill.migration.start import start_migration as start_migration
    from vecfill.migration.start_forecast import StartForecast as StartForecast
    from vecfill.migration.state import IndexState as IndexState
    from vecfill.migration.state import MigrationStatus as MigrationStatus
    from vecfill.migration.state import migration_status as migration_status
    from vecfill.migration.step_options import StepOptions as StepOptions
    from vecfill.migration.swap import swap_migration as swap_migration
    from vecfill.migration.verify import MigrationVerified as MigrationVerified
    from vecfill.migration.verify import Overlap as Overlap
    from vecfill.migration.verify import verify_migration as verify_migration
    from vecfill.planning.plan import plan as plan
    from vecfill.planning.record import ApiCost as ApiCost
    from vecfill.planning.record import Rate as Rate
    from vecfill.planning.record import Refusal as Refusal
    from vecfill.planning.record import Resources as Resources
    from vecfill.planning.record import RunPlan as RunPlan
    from vecfill.planning.record import TextEstimate as TextEstimate
    from vecfill.planning.record import TokenEstimate as TokenEstimate
    from vecfill.postgres.database import Database as Database
    from vecfill.read.queue_findings import QueueFindings as QueueFindings
    from vecfill.read.queue_upkeep import QueueCounts as QueueCounts
    from vecfill.read.survey import Coverage as Coverage
    from vecfill.remembered_failures import Failure as Failure
    from vecfill.remembered_failures import Failures as Failures
    from vecfill.remembered_failures import Retried as Retried
    from vecfill.remembered_failures import failures as failures
    from vecfill.remembered_failures import retry as retry
    from vecfill.table_status import Status as Status
    from vecfill.table_status import status as status
    from vecfill.target_tracking import TrackResult as TrackResult
    from vecfill.target_tracking import track as track
    from vecfill.target_untracking import untrack as untrack
    from vecfill.vector_search import Found as Found
    from vecfill.vector_search import Hit as Hit
    from vecfill.vector_search import search as search
    from vecfill.verification.index_recall import IndexRecall as IndexRecall
    from vecfill.verification.judgement import VerifiedRow as VerifiedRow
    from vecfill.verification.verify import VerifyResult as VerifyResult
    from vecfill.verification.verify import verify as verify
    from vecfill.watching.watch import watch as watch
    from vecfill.watching.watched import Watched as Watched
    from vecfill.watching.watched import WatchEnded as WatchEnded
    from vecfill.watching.watched import WatchResult as WatchResult

__version__ = "0.1.0"

_EXPORTS = {
    "adoption": ("Adoption",),
    "backfill.progress": ("Progress",),
    "backfill.forecast": ("Forecast", "IndexForecast"),
    "backfill.result": ("RunResult",),
    "backfill.row_report": ("Report",),
    "backfill.run": ("run",),
    "blocks": ("UnwrittenRow",),
    "config.api": ("ApiOptions",),
    "config.doctor": ("DoctorOptions",),
    "config.engine": ("EngineOptions",),
    "config.hooks": ("HookOptions",),
    "config.limits": ("WriteLimits",),
    "config.migrate": ("IndexOptions", "LockOptions", "MigrateOptions", "SwapOptions"),
    "config.model": ("Model",),
    "config.plan": ("PlanOptions",),
    "config.queue_options": ("QueueOptions",),
    "config.retry": ("RetryOptions",),
    "config.run": ("RunOptions",),
    "config.target": ("Target",),
    "config.track": ("TrackOptions",),
    "config.verify": ("VerifyOptions",),
    "diagnosis.examination": ("doctor",),
    "diagnosis.finding": ("Diagnosis", "Finding"),
    "config.watch": ("WatchOptions",),
    "encode.api.budget": ("Account",),
    "encode.encoder": ("Encoder",),
    "encode.encoding": ("Encoding",),
    "encode.load": ("load_model",),
    "engine.warm": ("Warm",),
    "errors": (
        *("VecfillError", "ConfigError", "UnreachableError", "MixedModelsError", "SecretError", "DatabaseError"),
        *(
            "ReadOnlyError",
            "ServerGoneError",
            "TableLockedError",
            "TooSlowError",
            "EncodeError",
            "BudgetError",
            "StoppedError",
            "PartialRunError",
        ),
        *("EngineError", "LeaseError"),
    ),
    "indexing.rebuilding": ("RebuiltIndex",),
    "job": ("Stop",),
    "ledger.recorded_runs": ("Holder", "RunRecord"),
    "migration.ending": ("MigrationEnded", "abandon_migration", "finish_migration"),
    "migration.exchange": ("MigrationSwapped",),
    "migration.fill": ("MigrationRun", "run_migration"),
    "migration.index_build": ("BuiltIndex",),
    "migration.obstacles": ("Obstacle",),
    "migration.own_search": ("OwnSearches",),
    "migration.rollback": ("roll_back_migration",),
    "migration.start": ("MigrationStarted", "start_migration"),
    "migration.start_forecast": ("StartForecast",),
    "migration.state": ("IndexState", "MigrationStatus", "migration_status"),
    "migration.step_options": ("StepOptions",),
    "migration.swap": ("swap_migration",),
    "migration.verify": ("MigrationVerified", "Overlap", "verify_migration"),
    "planning.plan": ("plan",),
    "planning.record": ("ApiCost", "Rate", "Refusal", "Resources", "RunPlan", "TextEstimate", "TokenEstimate"),
    "postgres.database": ("Database",),
    "read.queue_findings": ("QueueFindings",),
    "read.queue_upkeep": ("QueueCounts",),
    "read.survey": ("Coverage",),
    "remembered_failures": ("Failure", "Failures", "Retried", "failures", "retry"),
    "ledger_status": ("LedgerStatus",),
    "table_status": ("Status", "status"),
    "target_tracking": ("TrackResult", "track"),
    "target_untracking": ("untrack",),
    "vector_search": ("Found", "Hit", "search"),
    "verification.index_recall": ("IndexRecall",),
    "verification.judgement": ("VerifiedRow",),
    "verification.verify": ("VerifyResult", "verify"),
    "watching.watch": ("watch",),
    "watching.watched": ("WatchEnded", "WatchResult", "Watched"),
}
"""Module → its public names. No module may have the name of a function: importing it would hide the function."""

_MODULES = {name: f"{__name__}.{module}" for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULES)  # noqa: PLE0605

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Imports the public names at first use: ``vecfill --help`` needs none of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""vecfill keeps the embedding column of a PostgreSQL table full and true, with a local model.

>>> from vecfill import Model, Target, run
>>> run(Target(table="public.jobs", text="{title} at {company}"), Model(name="all-MiniLM-L6-v2"),
...     database="postgresql://localhost/app")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecfill.backfill.drain import Progress as Progress
    from vecfill.backfill.options import RunOptions as RunOptions
    from vecfill.backfill.result import RunResult as RunResult
    from vecfill.backfill.row_report import Report as Report
    from vecfill.backfill.run import run as run
    from vecfill.encode.api.api_options import ApiOptions as ApiOptions
    from vecfill.encode.spec import Model as Model
    from vecfill.engine.warm import Warm as Warm
    from vecfill.postgres.target import Target as Target

__version__ = "0.1.0"
_HOMES = {
    "ApiOptions": "vecfill.encode.api.api_options",
    "Model": "vecfill.encode.spec",
    "Target": "vecfill.postgres.target",
    "RunResult": "vecfill.backfill.result",
    "Report": "vecfill.backfill.row_report",
    "Warm": "vecfill.engine.warm",
    "Progress": "vecfill.backfill.drain",
    "RunOptions": "vecfill.backfill.options",
    "run": "vecfill.backfill.run",
}
__all__ = ["ApiOptions", "Model", "Progress", "Report", "RunOptions", "RunResult", "Target", "Warm", "run"]


def __getattr__(name: str) -> Any:
    """Imports the public names at first use: ``vecfill --help`` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

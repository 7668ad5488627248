"""vecfill keeps the embedding column of a PostgreSQL table full and true, with a local model.

>>> from vecfill import Model, Target, run
>>> run(Target(table="public.jobs", text="{title} at {company}"), Model(name="all-MiniLM-L6-v2"),
...     database="postgresql://localhost/app")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecfill.backfill import RunOptions as RunOptions
    from vecfill.backfill import run as run
    from vecfill.encode.api.options import Api as Api
    from vecfill.encode.spec import Model as Model
    from vecfill.engine.shared import Shared as Shared
    from vecfill.outcomes import Report as Report
    from vecfill.postgres.target import Target as Target
    from vecfill.result import RunResult as RunResult
    from vecfill.sweeps import Progress as Progress

__version__ = "0.1.0"
_HOMES = {
    "Api": "vecfill.encode.api.options",
    "Model": "vecfill.encode.spec",
    "Target": "vecfill.postgres.target",
    "RunResult": "vecfill.result",
    "Report": "vecfill.outcomes",
    "Shared": "vecfill.engine.shared",
    "Progress": "vecfill.sweeps",
    "RunOptions": "vecfill.backfill",
    "run": "vecfill.backfill",
}
__all__ = ["Api", "Model", "Progress", "Report", "RunOptions", "RunResult", "Shared", "Target", "run"]


def __getattr__(name: str) -> Any:
    """Imports the public names at first use: ``vecfill --help`` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

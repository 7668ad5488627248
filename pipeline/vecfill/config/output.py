"""The output of a verb: what it prints, and in which format."""

from __future__ import annotations

from typing import Literal

from vecfill.config.spec import Spec, option, spec


@spec
class Output(Spec):
    """Switches of the output. A file sets them only at its top, not in a target."""

    json: bool = option("Print one JSON object on stdout.", default=False)
    quiet: bool = option("Print only errors on stderr.", default=False)
    verbose: bool = option("Also print Ray's log and tracebacks.", default=False)
    log_format: Literal["text", "json"] = option(
        "Write the log to stderr as text, or as one JSON object per line.", default="text"
    )

"""Which vectors ``verify`` compares, and what it does about those that are off."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class VerifyOptions(Spec):
    """Choices of ``verify``."""

    sample: int = option("Compare N random vectors.", default=100, name="verify_sample", flag="--sample", gt=0)
    all: bool = option("Compare every vector; overrides --sample.", default=False, name="verify_all", flag="--all")
    fix: bool = option(
        "Re-embed the rows whose vectors are off; needs a tracked target.",
        default=False,
        name="verify_fix",
        flag="--fix",
    )

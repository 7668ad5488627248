"""How a plan makes its estimates."""

from __future__ import annotations

from pathlib import Path

from vecfill.config.spec import Spec, option, spec


@spec
class PlanOptions(Spec):
    """Choices of ``plan``."""

    sample: int = option(
        "Estimate distinct texts and tokens from a sample of N rows.",
        default=1_000,
        name="plan_sample",
        flag="--sample",
        gt=0,
        le=100_000,
    )
    measure: bool = option(
        "Load the model and embed the sample here, to measure the rate; nothing is written.",
        default=False,
        name="plan_measure",
        flag="--measure",
    )
    prices: Path | None = option(
        "Take the prices of embedding APIs from FILE.",
        default=None,
        name="plan_prices",
        flag="--prices",
        unset="configs/api-prices.toml",
        metavar="FILE",
    )

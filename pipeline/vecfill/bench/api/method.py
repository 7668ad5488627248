"""How the figures came about and what they do not say: the last part of the report."""

from __future__ import annotations

from vecfill.bench.api import retrieval
from vecfill.bench.api.amounts import number
from vecfill.bench.api.words import LOOPBACK, Report, rounds_told


def method(report: Report) -> list[str]:
    """How it was measured."""
    rows, sides = report["rows"], report["measured"]["sides"]
    asked = sides["api"]["settings"]
    lines = [
        "Both sides are the same pipeline in one process each (read by page ranges, encode, binary COPY and one UPDATE "
        "a batch); only the encoder differs. Each fills a scratch table of its own with the same rows, in turn, in "
        f"{rounds_told(report)}; the order alternates. Rows/s, database to database, count from the start of the "
        "first read to the last commit, the model loaded and the client connected. The tables are dropped at the end.",
        "The API's rows/s from the first request to the last answer leave out the first read and the last write: that "
        "is the rate which the server's own log has.",
        f"The API was asked with up to {asked.get('max_concurrency')} requests at a time, of up to "
        f"{asked.get('request_inputs'):,} texts and {asked.get('request_tokens'):,} tokens each; fewer at a time where "
        "it put off. Equal texts were sent again each time (vecfill run asks for each once).",
        "Neighbours are found by brute force over cosine, on the distinct texts; a row is never its own neighbour. "
        "Intervals are 95%, from the standard error over rows or queries.",
        f"Tokens: {rows['tokens_total']:,} by the tokenizer of {rows['tokens_tokenizer']}"
        + (", which is the API's own." if rows["tokens_exact"] else ": an estimate for the API, whose own may differ."),
    ]
    if report["measured"]["retrieval"]:
        made = report["measured"]["retrieval"]
        lines.append(
            f"The built-in retrieval set: titles of {retrieval.DOCUMENTS:,} job listings drawn evenly "
            f"({made['documents']:,} distinct) are the documents; the names of the {made['queries']} departments with "
            f"{retrieval.LEAST} of them or more are the queries; a title is relevant to its own department. Made by "
            "rule from what employers wrote, without labels of ours; no model can reach 100%, as some departments are "
            "parts of others."
        )
    return lines


def caveats(report: Report) -> list[str]:
    """What the figures do not say."""
    host = report["measured"]["sides"]["api"]["host"]
    lines = [
        "Times on a shared machine vary with its neighbours: trust the ratio within the run more than the rates "
        f"(load {report['machine']['load']} at the start).",
        "An API's rate depends on where it is asked from, on the hour and on the account's tier; a local rate on the "
        "machine. Neither carries over to another.",
        "Labels stand in for what your users look for. If search quality decides, judge it by queries of theirs.",
        "Not in the model: taxes, free allowances, contracts, data protection, the end of a model's life at either "
        "side, the cost of storing longer vectors.",
    ]
    if host in LOOPBACK:
        lines.insert(
            0,
            "The API was a server on this machine. It shares the cores with nothing while it is measured, has no "
            "network in between, and is no measurement of any vendor's API.",
        )
    if not report["rows"]["built_in"]:
        lines.append("The rows are the first that the server gave, not drawn by lot.")
    return lines


def machine_lines(report: Report) -> list[str]:
    """Where it was measured."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"{about['cpu']}, {about['cores']} cores ({' '.join(about['flags'])}), {number(about['memory_gib'])} GiB",
        f"{about['system']}, Python {about['python']}, PostgreSQL {about['postgresql']}, {versions}",
    ]

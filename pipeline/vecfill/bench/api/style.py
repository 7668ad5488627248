"""What the figures look like: measured ones solid on white, modelled ones dashed or hatched on a tint."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecfill.bench.api.sides import API, LOCAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {LOCAL: "#14687f", API: "#c2502e"}
NAMES = {LOCAL: "local model", API: "API"}
INK, FAINT, TINT = "#1d2529", "#68747b", "#fbf6e9"
SIZE = (5.0, 3.1)
"""Inches: at 390 pixels of width the 9 points of the letters are still read."""

_METADATA = ("Date", "Creator", "Format", "Type")
"""Left out of an SVG: they name addresses, and a page that names none can be seen to fetch none."""

_SETTINGS = {
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#dfe4e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vecfill",
    "hatch.linewidth": 0.7,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the page.

    Attributes:
        name: short, for anchors.
        title: what it shows, as a statement.
        modelled: whether it is reckoned, not measured.
        source: where its numbers stand in the JSON.
        svg: the drawing.
    """

    name: str
    title: str
    modelled: bool
    source: str
    svg: str


@contextmanager
def canvas(*, modelled: bool, height: float = SIZE[1]) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel, in the style of its kind."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]
        figure = Figure(figsize=(SIZE[0], height), layout="constrained", facecolor=TINT if modelled else "white")
        panel = figure.subplots()
        panel.set_facecolor(TINT if modelled else "white")
        panel.spines[["top", "right"]].set_visible(False)
        yield figure, panel


def line_style(*, modelled: bool) -> dict[str, Any]:
    """Of a curve."""
    return {"linestyle": (0, (5, 2)), "linewidth": 1.6} if modelled else {"linestyle": "-", "linewidth": 2.0}


def svg_of(figure: Figure, alt: str) -> str:
    """The drawing alone, as it stands in a page: with its description, without size and XML head."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA), facecolor=figure.get_facecolor())
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    opening, rest = text.split(">", 1)
    kept = [part for part in opening.split(" ") if not part.startswith(("width=", "height="))]
    return f'{" ".join(kept)} role="img" aria-label="{html.escape(alt, quote=True)}">{rest}'

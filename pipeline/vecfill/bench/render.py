"""Reports as files: templates filled in by jinja2, drawings by matplotlib, and the folder that they go into."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = ("Date", "Creator", "Format", "Type")
"""Left out of an SVG: they contain addresses, and a page without any visibly loads nothing."""


def check_installed(*packages: str) -> None:
    """Finds a missing package of the extra ``bench`` before anything is measured.

    Raises:
        ConfigError: one is not installed.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ConfigError(f"not installed: {', '.join(missing)}: pip install 'vecfill[bench]'")


def check_folder(folder: Path) -> None:
    """Makes the folder, and finds one that cannot be written before anything is measured or paid for.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Writes the files by name; returns their paths.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        for name, content in contents.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise _refused(folder, error) from error
    return [folder / name for name in contents]


def _refused(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--report {folder} cannot be written: {error.strerror}: name another folder")


def render(template: str, filters: Mapping[str, Callable[..., str]] = MappingProxyType({}), **values: Any) -> str:
    """Fills in a template of ``bench/templates``; values are escaped in those for HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("vecfill.bench"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**values)


def png(figure: Figure) -> bytes:
    """The drawing as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The drawing as an SVG element for a page: without XML head."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA), facecolor=figure.get_facecolor())
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :]

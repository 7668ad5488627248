"""Which text goes before every row: the user's prompt, the model's default prompt, or its prompt for documents."""

from __future__ import annotations

from collections.abc import Mapping

from vecfill.config.model import Model
from vecfill.encode.model.model_files import reader
from vecfill.encode.model.model_location import hash_dimension, locate_model
from vecfill.errors import ConfigError

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of a model's prompts for documents: rows get the first one that it has, as in the library's
``encode_document``."""

BUILT_IN = {"query": "", "document": ""}
"""Prompts that the library adds to a model that does not name them."""


def row_prompt(model: Model, prompts: Mapping[str, str], default: str | None) -> str | None:
    """Returns the text to put before every row.

    Args:
        model: with the user's choice.
        prompts: the model's own, by name.
        default: name of the model's default prompt; the library uses it for all texts but queries.

    Raises:
        ConfigError: the model has no prompt of that name.
    """
    if model.prompt is not None:
        return model.prompt
    name = model.prompt_name or default or next((one for one in DOCUMENT_PROMPTS if one in prompts), None)
    if name is None:
        return None
    if name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise ConfigError(f"--prompt-name is {name!r} but model {model.name} has only these prompts: {known}")
    return prompts[name]


def prompt_of_rows(model: Model) -> str | None:
    """Returns the text that goes before every row, by the model's files; None if there is none.

    Raises:
        ConfigError: as ``row_prompt``, or as ``locate_model``.
    """
    if model.is_api or hash_dimension(model) is not None:
        return None
    prompts, default = declared(model)
    return row_prompt(model, prompts, default)


def prompt_of_queries(model: Model) -> str | None:
    """Returns the text that the model's files put before a query; None if there is none, or if the user chose a prompt.

    Raises:
        ConfigError: as ``locate_model``.
    """
    if model.is_api or hash_dimension(model) is not None or model.prompt is not None or model.prompt_name is not None:
        return None
    return declared(model)[0].get("query") or None


def declared(model: Model) -> tuple[dict[str, str], str | None]:
    """Returns the model's prompts by name, and the name of its default, by its files."""
    settings = reader(locate_model(model), model.revision)("config_sentence_transformers.json") or {}
    prompts = BUILT_IN | {name: text or "" for name, text in (settings.get("prompts") or {}).items()}
    return prompts, settings.get("default_prompt_name")


def prompt_line(model: Model) -> str | None:
    """Returns a line for the log that says which prompt rows get, by the model's files; None if there are no prompts.

    Raises:
        ConfigError: as ``row_prompt``, or as ``locate_model``.
    """
    if model.is_api or hash_dimension(model) is not None:
        return None
    prompts, default = declared(model)
    prompt = row_prompt(model, prompts, default)
    others = [f"{name} ({text!r})" for name, text in prompts.items() if text and text != prompt]
    if not prompt and not others:
        return None
    line = f"rows get the prompt {prompt!r}" if prompt else "rows get no prompt"
    return f"{line}; the model also has {', '.join(others)}: see --prompt-name" if others else line

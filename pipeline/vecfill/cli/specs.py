"""From settings to the specs that the verbs' functions take."""

from __future__ import annotations

from vecfill.backfill.options import RunOptions
from vecfill.config import Settings
from vecfill.encode.api.api_options import ApiOptions
from vecfill.encode.spec import Model
from vecfill.engine.choice import EngineOptions
from vecfill.postgres.database import Database
from vecfill.postgres.target import Target
from vecfill.write.throttle import WriteLimits


def database_of(settings: Settings) -> Database:
    """The database that the settings, or libpq's environment, name.

    Raises:
        ConfigError: nothing names one.
    """
    return Database.resolve(settings.database, password_command=settings.password_command)


def target_of(settings: Settings, *, text_needed: bool = True) -> Target:
    """The target that the settings name.

    Raises:
        ConfigError: the table is missing, or the text where it is needed.
    """
    settings.need("table", *(["text"] if text_needed else []))
    return Target(
        table=str(settings.table),
        text=settings.text,
        column=settings.column,
        key=settings.key,
        where=settings.where,
        set=settings.set,
        dim=settings.dim,
    )


def model_of(settings: Settings) -> Model:
    """The model that the settings name.

    Raises:
        ConfigError: it is missing.
    """
    settings.need("model")
    return Model(
        name=str(settings.model),
        revision=settings.revision,
        prompt=settings.prompt,
        prompt_name=settings.prompt_name,
        truncate_dim=settings.truncate_dim,
        max_tokens=settings.max_tokens,
        dtype=settings.dtype,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
        api=api_of(settings),
    )


def api_of(settings: Settings) -> ApiOptions:
    """How an API is asked; its key is no setting."""
    return ApiOptions(
        base_url=settings.base_url,
        key_command=settings.api_key_command,
        tokenizer=settings.tokenizer,
        max_concurrency=settings.max_concurrency,
        request_inputs=settings.request_inputs,
        request_tokens=settings.request_tokens,
        request_timeout=settings.request_timeout,
        max_requests=settings.max_requests,
        max_cost=settings.max_cost,
        price_per_million=settings.price_per_million,
    )


def options_of(settings: Settings, *, verbose: bool) -> RunOptions:
    """How the run is carried out."""
    engine = EngineOptions(
        engine=settings.engine,
        ray_address=settings.ray_address,
        actors=settings.actors,
        gpus_per_actor=settings.gpus_per_actor,
        writers=settings.writers,
        max_connections=settings.max_connections,
        verbose=verbose,
    )
    return RunOptions(
        limit=settings.limit,
        max_seconds=settings.max_seconds,
        allow_mixed=settings.allow_mixed,
        yes=settings.yes,
        write_limits=WriteLimits.parse(
            max_rate=settings.max_rate,
            max_replication_lag=settings.max_replication_lag,
            max_slot_wal=settings.max_slot_wal,
        ),
        dedupe=settings.dedupe,
        engine=engine,
    )

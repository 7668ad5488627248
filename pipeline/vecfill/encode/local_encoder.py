"""Chooses who computes a local model: our own forward pass where it was proven right, else the library."""

from __future__ import annotations

import logging
from pathlib import Path

from vecfill.config.model import Model
from vecfill.encode.encoder import Encoder
from vecfill.encode.model.model_files import fetched, reader
from vecfill.encode.model.model_location import locate_model
from vecfill.encode.native.architecture import NotNativeError
from vecfill.encode.native.module_chain import ModuleChain, chain_of, weights_file
from vecfill.encode.native.proof import Proof, ProofStore
from vecfill.encode.row_encoder import is_out_of_memory

_log = logging.getLogger(__name__)


def local_encoder(model: Model, threads: int | None = None, gpu_share: float = 1.0) -> Encoder:
    """Loads a model that this machine computes.

    Args:
        model: which one.
        threads: CPU threads for torch, as Ray would allow a GPU actor only one; None keeps torch's number.
        gpu_share: share of a GPU's memory that this process may take.

    Raises:
        ConfigError: as ``TransformerEncoder``.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if gpu_share < 1:
        from vecfill.encode.device.compute_device import share_memory

        share_memory(gpu_share)
    try:
        return _native(model)
    except NotNativeError as reason:
        _log.debug("sentence-transformers computes model %s: %s", model.name, reason)
    from vecfill.encode.library.transformer import TransformerEncoder

    return TransformerEncoder(model)


def _native(model: Model) -> Encoder:
    """Loads the model for our own pass, after the proof.

    Raises:
        ConfigError: as ``TransformerEncoder``.
        NotNativeError: the library is to compute it, and why.
    """
    chain, folder = _readable(model)
    from vecfill.encode.device import compute_device

    store = ProofStore(model, compute_device.device_kind(compute_device.resolve_device(model.device)))
    proof = store.read()
    if proof is None:
        proof = _proven(model, chain, folder)
        store.save(proof)
    if not proof.agrees:
        _log.warning("sentence-transformers computes model %s, not vecfill's own pass: %s", model.name, proof.reason)
        raise NotNativeError(proof.reason)
    from vecfill.encode.native.native_encoder import NativeEncoder

    return NativeEncoder(model, chain, folder, proof)


def _readable(model: Model) -> tuple[ModuleChain, Path]:
    """The modules of a model that our pass reads, and the folder of its files."""
    if model.encoder == "library":
        raise NotNativeError("--encoder is library")
    if model.trust_remote_code:
        raise NotNativeError("--trust-remote-code asks for the model's own code")
    location = locate_model(model)
    config = fetched(location, "config.json", model.revision)
    if config is None or not config.is_file():
        raise NotNativeError("it has no config.json")
    chain = chain_of(reader(str(config.parent), None))
    weights_file(config.parent / chain.folder)
    return chain, config.parent


def _proven(model: Model, chain: ModuleChain, folder: Path) -> Proof:
    """Compares our pass with the library; an error in it must not end what the library can do."""
    from vecfill.encode.native.proving import prove
    from vecfill.errors import VecfillError

    _log.info("comparing vecfill's own pass with sentence-transformers, once for model %s", model.name)
    try:
        return prove(model, chain, folder)
    except (NotNativeError, VecfillError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}"
        _log.warning("sentence-transformers computes model %s, not vecfill's own pass: %s", model.name, reason)
        raise NotNativeError(reason) from error

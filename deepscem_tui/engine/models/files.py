"""Models from files and into files.

``.keras`` is Keras 3's own format with one more member, ``deepscem_tui.json``. ``.h5`` is the format of Keras 2.10,
which DeepSCEM reads and writes, with one more attribute. Networks are built anew from what
:mod:`deepscem_tui.engine.networks.graph` accepts of a file's description: Keras never sees a description from a file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepscem_tui.engine.datasets.hdf5_files import session
from deepscem_tui.engine.datasets.journal import WatchedFile
from deepscem_tui.engine.datasets.probing import remember
from deepscem_tui.engine.errors import ModelError, ParameterError
from deepscem_tui.engine.models.containers import (
    METADATA_ATTRIBUTE,
    METADATA_MEMBER,
    checked_weights,
    explained,
    read_contents,
)
from deepscem_tui.engine.models.info import ModelInfo, info_of, read_info
from deepscem_tui.engine.networks import keras2
from deepscem_tui.engine.networks.geometry import graph_of
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.system.files import published, refuse_existing

__all__ = ["ModelInfo", "check_format", "check_suffix", "load_model", "read_info", "save_model"]

_log = logging.getLogger(__name__)

_CHECKSUM = "weights_sha256"  # in what is stored of a model; files of others, and earlier ones, have none


def check_suffix(path: Path) -> None:
    """Raise :class:`ParameterError` if a model cannot have this name."""
    if path.suffix not in (".keras", ".h5"):
        raise ParameterError(
            f"{path} does not end in .keras or .h5", "Name the model .keras, or .h5 if DeepSCEM is to read it."
        )


def check_format(path: Path, graph: Graph) -> None:
    """Raise :class:`ModelError` if a file of this name cannot hold the network."""
    if path.suffix == ".h5":
        keras2.check_known(graph)


def load_model(path: Path) -> tuple[Any, ModelInfo]:
    """Load a model of this program, of DeepSCEM, or of others if it is made of standard layers.

    Returns:
        The Keras model, not compiled, from float32 (B, [Z,] Y, X, 1) to (B, [Z,] Y, X, outputs); what is known of it.

    Raises:
        ModelError: it is no model file, is damaged, or holds a network that cannot be used.
    """
    contents = read_contents(path)
    info = info_of(path, contents)
    _log.debug("load %s: %d parameters", path, info.n_parameters)
    from deepscem_tui.engine.networks.assemble import assemble, keras_name

    with checked_weights(path, contents.format) as weights, explained(path):
        model = assemble(contents.graph)
        names = {keras_name(layer.name): layer.name for layer in contents.graph.layers}
        if contents.format == "keras":
            _load_keras_weights(model, list(names), weights)
        else:
            with h5py.File(weights, "r", locking=False) as file:
                for layer in model.layers:
                    _set_weights(layer, names[layer.name], file["model_weights"])
        for layer in model.layers:
            if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
                raise ModelError(f"The weights of layer {layer.name!r} are not there, or not all finite numbers")
        noted = contents.metadata.get(_CHECKSUM) if isinstance(contents.metadata, dict) else None
        if noted is not None and noted != _checksum(model):
            raise ModelError("Its weights are not those that were saved: their checksum differs", "Copy it again.")
    return model, info


def save_model(
    model: Any, info: ModelInfo, path: Path, overwrite: bool, before: Callable[[Path], None] = lambda _: None
) -> None:
    """Write a model, whole or not at all.

    Args:
        model: Keras model of the kinds of layers that :mod:`deepscem_tui.engine.networks.graph` knows.
        path: ``.keras``, or ``.h5`` for DeepSCEM and Keras 2.10.
        before: See :func:`~deepscem_tui.engine.system.files.published`.

    Raises:
        ParameterError: for a name that a model cannot have, or that exists and may not be replaced.
        ModelError: the file cannot be written, or not hold the network.
        ResourceError: the disk is full.
    """
    check_suffix(path)
    refuse_existing(path, overwrite)
    metadata = json.dumps(info.as_json() | {_CHECKSUM: _checksum(model)}, ensure_ascii=False)
    try:
        size = sum(weight.nbytes for weight in model.get_weights())
        with published(path, size, before) as temporary:
            if path.suffix == ".h5":
                _write_h5(model, metadata, temporary)
            else:
                model.save(temporary)
                with zipfile.ZipFile(temporary, "a") as archive:
                    archive.writestr(METADATA_MEMBER, metadata)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written: {error.strerror or error}", "Is there space, and is the folder yours?"
        ) from None
    remember(path)


def _checksum(model: Any) -> str:
    """SHA-256 of all weights, layer by layer as float32, the same in either format."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for weight in layer.get_weights():
            digest.update(repr(weight.shape).encode())
            digest.update(np.ascontiguousarray(weight, "<f4").data)
    return digest.hexdigest()


def _load_keras_weights(model: Any, names: list[str], stored: Path) -> None:
    """Fill a model from a file of weights of Keras 3, which finds them by the kinds of the layers and their order."""
    if [layer.name for layer in model.layers] != names:
        raise ModelError("Its layers stand in an order that this version of Keras does not give them")
    for layer in model.layers:  # Keras only warns of some weights that are missing: these stay as they are here
        layer.set_weights([np.full(weight.shape, np.nan, np.float32) for weight in layer.weights])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.load_weights(stored)


def _set_weights(layer: Any, name: str, stored: h5py.Group) -> None:
    """Fill a layer with the weights that Keras 2 or 3 stored under ``name``."""
    variables = layer.weights
    if not variables:
        return
    if name not in stored:
        raise ModelError(f"It has no weights for layer {name!r}", "The file is damaged.")
    group = stored[name]
    arrays = [group[key.decode() if isinstance(key, bytes) else key] for key in group.attrs["weight_names"]]
    for array, variable in zip(arrays, variables, strict=False):
        if array.shape != tuple(variable.shape) or array.dtype.kind != "f":
            raise ModelError(f"The weights of layer {name!r} are {array.shape} instead of {tuple(variable.shape)}")
    if len(arrays) != len(variables):
        raise ModelError(
            f"Layer {name!r} has {len(arrays)} weights instead of {len(variables)}", "The file is damaged."
        )
    layer.set_weights([array[()] for array in arrays])


def _write_h5(model: Any, metadata: str, path: Path) -> None:
    """Write what Keras 2.10 writes, and the metadata as one more attribute of the root."""
    graph = graph_of(model)
    keras2.check_known(graph)
    versions = {"backend": "tensorflow", "keras_version": keras2.VERSION}
    with WatchedFile(path) as watched, session(path, watched, "w") as (file, _):
        file.attrs.update(versions)
        file.attrs["model_config"] = json.dumps(keras2.describe(graph))
        file.attrs[METADATA_ATTRIBUTE] = metadata
        weights = file.create_group("model_weights")
        weights.attrs.update(versions)
        weights.attrs["layer_names"] = np.array([layer.name.encode() for layer in graph.layers])
        for layer in model.layers:
            group = weights.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S" if names else "S1")
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)

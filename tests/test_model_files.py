"""Model files: DeepSCEM's, our own, those of others, and hostile ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.errors import ModelError, ParameterError, ResourceError
from deepscem_tui.engine.models.files import check_suffix, load_model, read_info, save_model
from deepscem_tui.engine.models.info import ModelInfo, describe
from deepscem_tui.engine.networks import build_network
from deepscem_tui.engine.networks.geometry import graph_of
from deepscem_tui.engine.prediction.tiling import along_axes

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not there")
SUFFIXES = (".keras", ".h5")


def network(**changes: Any) -> tuple[Any, ModelInfo]:
    """A small network of two labels whose weights are not those that it began with."""
    settings = p.CreateModel(out=Path("x.keras"), labels=2, **({"filters": 2, "depth": 2} | changes))
    model = build_network(settings, 2)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.5, weight.shape) for weight in model.get_weights()])
    return model, describe(graph_of(model), ["mito", "ER"], settings.activation == "softmax", {"depth": settings.depth})


def image(model: Any) -> np.ndarray:
    return np.random.default_rng(1).random((1, *(8,) * (len(model.input_shape) - 2), 1), dtype=np.float32)


@pytest.fixture(scope="module")
def small() -> tuple[Any, ModelInfo]:
    return network()


@pytest.fixture(params=SUFFIXES)
def saved(request: pytest.FixtureRequest, tmp_path: Path, small: tuple[Any, ModelInfo]) -> Path:
    path = tmp_path / f"small{request.param}"
    save_model(*small, path, overwrite=False)
    return path


# ------------------------------------------------------------------------------------------------ round trips


@needs_deepscem
@pytest.mark.parametrize("name", ["unet2d_residual", "unet3d_residual"])
def test_models_of_deepscem_give_their_stored_output_in_both_formats(name: str, tmp_path: Path) -> None:
    model, info = load_model(DEEPSCEM / f"{name}.h5")
    given, expected = (np.load(DEEPSCEM / f"{name}_{part}.npy", allow_pickle=False) for part in ("input", "output"))
    np.testing.assert_allclose(model(given), expected, atol=1e-5)
    assert (info.n_labels, info.background, info.named) == (expected.shape[-1], False, False)
    assert (info.dimension, info.activation) == (int(name[4]), "sigmoid")
    assert (info.divisor, info.receptive_radius) == (
        along_axes(4, 1, info.dimension),
        along_axes(23, 0, info.dimension),
    )
    assert info.n_parameters == model.count_params()
    for suffix in SUFFIXES:
        save_model(model, info, tmp_path / f"again{suffix}", overwrite=False)
        again, same = load_model(tmp_path / f"again{suffix}")
        assert same == info
        np.testing.assert_array_equal(again(given), model(given))


@needs_deepscem
@pytest.mark.parametrize("name", ["unet2d_residual.h5", "unet3d_residual.h5"])
def test_a_file_for_deepscem_is_what_keras_2_wrote(name: str, tmp_path: Path) -> None:
    """Byte for byte what matters: the description but for initialisers, the names and the weights."""

    def without_initialisers(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_initialisers(v) for k, v in value.items() if not k.endswith("_initializer")}
        return [without_initialisers(item) for item in value] if isinstance(value, list) else value

    model, info = load_model(DEEPSCEM / name)
    save_model(model, info, tmp_path / "ours.h5", overwrite=False)
    with h5py.File(DEEPSCEM / name) as theirs, h5py.File(tmp_path / "ours.h5") as ours:
        a, b = (without_initialisers(json.loads(file.attrs["model_config"])) for file in (theirs, ours))
        layers_a, layers_b = ({layer["name"]: layer for layer in part["config"].pop("layers")} for part in (a, b))
        assert layers_a == layers_b
        assert a == b
        assert [ours.attrs[key] for key in ("backend", "keras_version")] == ["tensorflow", "2.10.0"]
        theirs, ours = theirs["model_weights"], ours["model_weights"]
        names = [item.decode() if isinstance(item, bytes) else item for item in ours.attrs["layer_names"]]
        assert names == list(theirs.attrs["layer_names"])
        for layer in names:
            stored = [key.decode() for key in ours[layer].attrs["weight_names"]]
            assert stored == [str(key) for key in theirs[layer].attrs["weight_names"]]
            for key in stored:
                np.testing.assert_array_equal(theirs[layer][key], ours[layer][key])


# What the classes of Keras 2.10 take, as far as it writes it itself.
_ANY = {"name", "trainable", "dtype"}
_KERNEL = {
    *_ANY, "filters", "kernel_size", "strides", "padding", "data_format", "groups", "activation", "use_bias",
    "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "activity_regularizer",
    "kernel_constraint", "bias_constraint",
}  # fmt: skip
KERAS_2_10 = {
    "InputLayer": {"batch_input_shape", "dtype", "sparse", "ragged", "name"},
    "Conv2D": _KERNEL | {"dilation_rate"},
    "Conv3D": _KERNEL | {"dilation_rate"},
    "Conv2DTranspose": _KERNEL | {"dilation_rate", "output_padding"},
    "Conv3DTranspose": _KERNEL | {"output_padding"},
    "BatchNormalization": {
        *_ANY, "axis", "momentum", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer",
        "moving_mean_initializer", "moving_variance_initializer", "beta_regularizer", "gamma_regularizer",
        "beta_constraint", "gamma_constraint",
    },
    "Activation": _ANY | {"activation"},
    "MaxPooling2D": _ANY | {"pool_size", "padding", "strides", "data_format"},
    "MaxPooling3D": _ANY | {"pool_size", "padding", "strides", "data_format"},
    "Concatenate": _ANY | {"axis"},
    "Add": _ANY,
}  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
def test_a_file_for_deepscem_says_only_what_keras_2_knows(dimension: int, architecture: str, tmp_path: Path) -> None:
    save_model(*network(dimension=dimension, architecture=architecture), tmp_path / "m.h5", overwrite=False)
    with h5py.File(tmp_path / "m.h5") as file:
        description = json.loads(file.attrs["model_config"])
        weights = {layer: list(file["model_weights"][layer].attrs["weight_names"]) for layer in file["model_weights"]}
    assert set(description) == {"class_name", "config"}
    assert set(description["config"]) == {"name", "layers", "input_layers", "output_layers"}
    for layer in description["config"]["layers"]:
        assert set(layer) == {"class_name", "config", "name", "inbound_nodes"}
        assert set(layer["config"]) == KERAS_2_10[layer["class_name"]]
        assert layer["config"]["dtype"] == "float32"
        for node in layer["inbound_nodes"]:
            assert all(len(item) == 4 and item[1:] == [0, 0, {}] for item in node)
        if layer["class_name"].startswith("Conv") and layer["config"]["use_bias"]:
            name = layer["name"]
            assert weights[name] == [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"dimension": 3, "activation": "softmax"}, {"architecture": "fcn", "block": "vgg", "normalization": "none"}],
)
def test_everything_returns(changes: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    model, info = network(**changes)
    info = replace(
        info,
        voxel_size=(8.0, 4.0, 4.0),
        voxel_unit="nm",
        patch_size=(1, 64, 64),
        training={"epochs": 3, "loss": "dice"},
    )
    path = tmp_path / "new folder" / f"m{suffix}"
    save_model(model, info, path, overwrite=False)
    again, same = load_model(path)
    assert same == info == read_info(path)
    assert same.n_outputs == 2 + (changes.get("activation") == "softmax") == model.output_shape[-1]
    np.testing.assert_array_equal(again(image(model)), model(image(model)))
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_keras_itself_loads_our_archive(small: tuple[Any, ModelInfo], tmp_path: Path) -> None:
    save_model(*small, tmp_path / "m.keras", overwrite=False)
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(again(image(again)), small[0](image(again)))


def test_names_of_labels_that_nobody_named(small: tuple[Any, ModelInfo], saved: Path) -> None:
    save_model(small[0], describe(graph_of(small[0]), None, False, None), saved, overwrite=True)
    info = read_info(saved)
    assert (info.label_names, info.named, info.settings) == (("label_0000", "label_0001"), False, None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other locks")
def test_a_model_that_another_program_has_locked_is_not_damaged(small: tuple[Any, ModelInfo], tmp_path: Path) -> None:
    import fcntl

    save_model(*small, tmp_path / "m.h5", overwrite=False)
    with (tmp_path / "m.h5").open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        model, info = load_model(tmp_path / "m.h5")
    assert info == small[1]
    np.testing.assert_allclose(model(image(model)), small[0](image(model)), rtol=1e-5)


def test_loading_follows_the_precision_asked_for(saved: Path) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, _ = load_model(saved)
    finally:
        keras.config.set_dtype_policy(before)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.output.dtype == "float32"
    assert model.layers[1].compute_dtype == "float16"


def test_reading_the_description_imports_no_tensorflow(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from deepscem_tui.engine.models.files import read_info\n"
        f"info = read_info(Path({str(saved)!r})); assert info.label_names == ('mito', 'ER'), info\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------------------ writing


def test_an_existing_file_is_replaced_only_when_asked(small: tuple[Any, ModelInfo], saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ParameterError, match="--overwrite"):
        save_model(*small, saved, overwrite=False)
    assert saved.read_bytes() == before
    save_model(small[0], replace(small[1], label_names=("a", "b")), saved, overwrite=True)
    assert read_info(saved).label_names == ("a", "b")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_fails_leaves_the_old_file(suffix: str, small: tuple[Any, ModelInfo], tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"old")

    class Full:
        layers = small[0].layers

        def save(self, target: Path) -> None:
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        def get_config(self) -> Any:
            raise OSError(28, "No space left on device")

        def get_weights(self) -> list[Any]:
            return [np.zeros(250, np.float32)]

    with pytest.raises(ResourceError, match=r"m\..* could not be written: No space left .*1,000 bytes are needed"):
        save_model(Full(), small[1], path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["m", "m.hdf5", "m.pb", "m.KERAS.zip"])
def test_names_that_a_model_cannot_have(name: str) -> None:
    with pytest.raises(ParameterError, match=r"\.keras or \.h5"):
        check_suffix(Path(name))


# ------------------------------------------------------------------------------------------------ models of others


def foreign(shape: tuple[int | None, ...] = (None, None, 1)) -> Any:
    inputs = keras.Input(shape)
    x = layers.Conv2D(3, 3, padding="same", activation="relu", kernel_regularizer="l2")(inputs)
    x = layers.Dropout(0.5)(x)
    y = layers.UpSampling2D(2)(layers.AveragePooling2D(2)(x))
    x = layers.Concatenate()([x, y])
    x = layers.BatchNormalization(center=False)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax")(x))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_that_keras_3_saved(suffix: str, tmp_path: Path) -> None:
    model = foreign((16, 16, 1))
    model.compile("adam", "mse")
    model.save(tmp_path / f"m{suffix}")
    again, info = load_model(tmp_path / f"m{suffix}")
    given = np.random.default_rng(0).random((1, 16, 16, 1), dtype=np.float32)
    np.testing.assert_allclose(again(given), model(given), atol=1e-6)
    assert again.input_shape == (None, None, None, 1)
    assert (info.n_labels, info.background, info.activation, info.settings) == (4, False, "softmax", None)
    assert info.n_parameters == model.count_params()
    save_model(again, info, tmp_path / "again.h5", overwrite=False)
    np.testing.assert_allclose(load_model(tmp_path / "again.h5")[0](given), model(given), atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: layers.Flatten()(x), "Flatten"),
        (lambda x: layers.Conv2D(2, 3)(x), "not padded"),
        (lambda x: layers.MaxPooling2D()(x), "resolution"),
        (lambda x: layers.Conv2D(2, 1, data_format="channels_first")(x), "channels_first"),
        (lambda x: foreign()(x), "Functional"),
    ],
)
def test_networks_that_do_not_segment(make: Callable[[Any], Any], message: str, suffix: str, tmp_path: Path) -> None:
    inputs = keras.Input((16, 16, 1))
    keras.Model(inputs, make(inputs)).save(tmp_path / f"m{suffix}")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path / f"m{suffix}")
    assert str(tmp_path / "m") in caught.value.what


def test_colour_images_and_several_inputs(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    colour = keras.Input((None, None, 3))
    keras.Model(colour, layers.Conv2D(1, 1)(colour)).save(path)
    with pytest.raises(ModelError, match="3 channels"):
        load_model(path)
    two = [keras.Input((None, None, 1)), keras.Input((None, None, 1))]
    keras.Model(two, layers.Add()(two)).save(path)
    with pytest.raises(ModelError, match="2 inputs"):
        load_model(path)


# ------------------------------------------------------------------------------------------------ hostile files


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the description in a model file."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = json.dumps(change(json.loads(members["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def layer_of(description: Any, kind: str) -> Any:
    return next(layer for layer in description["config"]["layers"] if layer["class_name"] == kind)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_code_in_a_model_is_refused_and_never_run(suffix: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inputs = keras.Input((None, None, 1))
    code = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")
    keras.Model(inputs, layers.Lambda(code, name="innocent")(inputs)).save(tmp_path / f"m{suffix}")
    marker.unlink()
    for read in (read_info, load_model):
        with pytest.raises(ModelError, match=r"'innocent' is of the kind 'Lambda'.*program code"):
            read(tmp_path / f"m{suffix}")
    assert not marker.exists()


def _lambda_activation(description: Any) -> Any:
    layer_of(description, "Conv2D")["config"]["activation"] = {"class_name": "__lambda__", "config": {"value": "YQ=="}}
    return description


def _registered(description: Any) -> Any:
    layer_of(description, "Conv2D")["registered_name"] = "evil>Conv2D"
    return description


def _other_module(description: Any) -> Any:
    layer_of(description, "Conv2D")["module"] = "os"
    return description


def _cycle(description: Any) -> Any:
    layer_of(description, "MaxPooling2D")["inbound_nodes"] = [[["output", 0, 0, {}]]]
    return description


def _huge(description: Any) -> Any:
    for layer in description["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"]["filters"] = 60_000
    return description


def _many(description: Any) -> Any:
    description["config"]["layers"] *= 200
    return description


def _renamed(description: Any) -> Any:
    layer_of(description, "Conv2D")["config"]["kernel_size"] = [10**9, 3]
    return description


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lambda_activation, "activation"),
        (_registered, "cannot be used"),
        (_other_module, "cannot be used"),
        (_cycle, "before its inputs"),
        (_huge, "parameters, more than the file holds|different numbers"),
        (_many, "layers"),
        (_renamed, "kernel_size"),
        (lambda description: {"class_name": "Lambda", "config": {}}, "'Lambda'"),
        (lambda description: {"class_name": "Functional", "config": {"layers": 3}}, "damaged"),
        (lambda description: [description], "damaged"),
        (lambda description: None, "damaged"),
    ],
)
def test_a_description_that_was_tampered_with(change: Callable[[Any], Any], message: str, saved: Path) -> None:
    edit(saved, change)
    for read in (read_info, load_model):
        with pytest.raises(ModelError, match=message):
            read(saved)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file(share: float, saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="small"):
        load_model(saved)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_is_refused_or_read(seed: int, saved: Path) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(saved.read_bytes())
    for position in rng.integers(0, len(content), 40):
        content[position] = rng.integers(256)
    saved.write_bytes(content)
    with suppress(ModelError):
        load_model(saved)


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 no archive", b"\x89HDF\r\n\x1a\n no HDF5"])
def test_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    for read in (read_info, load_model):
        with pytest.raises(ModelError, match=r"m\.keras"):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="no regular file"):
        read_info(tmp_path / "m.keras")


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model"):
        read_info(tmp_path / "nothing.keras")
    with pytest.raises(ModelError, match="is a folder"):
        read_info(tmp_path)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.attrs["labels"] = 1
    with pytest.raises(ModelError, match="is a data set"):
        read_info(tmp_path / "data.h5")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(ModelError, match="not one of Keras"):
        read_info(tmp_path / "other.keras")


def test_a_description_that_expands_without_end(tmp_path: Path) -> None:
    saved = tmp_path / "m.keras"
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", b"[" * (32 << 20))
    with pytest.raises(ModelError, match="longer than"):
        read_info(saved)
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", b"[" * 100_000)
    with pytest.raises(ModelError, match="damaged"):
        read_info(saved)


def change_weights(path: Path, change: Callable[[h5py.File], None]) -> None:
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            change(file)
        return
    weights = path.with_name("weights.h5")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    members["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def a_kernel(file: h5py.File) -> str:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.ndim == 4 else None
    )
    return found[0]


def test_weights_that_lie_elsewhere(saved: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10_000))

    def external(file: h5py.File) -> None:
        name = a_kernel(file)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 4 * int(np.prod(shape)))])

    change_weights(saved, external)
    with pytest.raises(ModelError, match="another file"):
        load_model(saved)


def test_weights_that_link_elsewhere(saved: Path) -> None:
    def linked(file: h5py.File) -> None:
        name = a_kernel(file)
        del file[name]
        file[name] = h5py.ExternalLink("/etc/other.h5", "/x")

    change_weights(saved, linked)
    with pytest.raises(ModelError, match="another place"):
        load_model(saved)


def test_weights_that_claim_too_much(saved: Path) -> None:
    def claim(file: h5py.File) -> None:
        name = a_kernel(file)
        del file[name]
        file.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))

    change_weights(saved, claim)
    with pytest.raises(ModelError, match="more than the file holds"):
        load_model(saved)


def test_weights_of_another_shape_or_none(saved: Path) -> None:
    def exchange(file: h5py.File) -> None:
        name = a_kernel(file)
        del file[name]
        file[name] = np.zeros((1, 1, 1, 1), np.float32)

    change_weights(saved, exchange)
    with pytest.raises(ModelError, match="small"):
        load_model(saved)
    change_weights(saved, lambda file: file.__delitem__(a_kernel(file)))
    with pytest.raises(ModelError, match="small"):
        load_model(saved)


def test_weights_of_a_whole_layer_are_missing(saved: Path) -> None:
    def without(file: h5py.File) -> None:
        del file[a_kernel(file).rsplit("/", 2)[0]]

    change_weights(saved, without)
    with pytest.raises(ModelError, match="small"):
        load_model(saved)


def test_weights_that_are_no_numbers(saved: Path) -> None:
    def spoil(file: h5py.File) -> None:
        file[a_kernel(file)][0, 0, 0, 0] = np.nan

    change_weights(saved, spoil)
    with pytest.raises(ModelError, match="not all finite"):
        load_model(saved)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "damaged"),
        ("[]", "is not as expected"),
        ('{"version": 99}', "newer version"),
        ('{"version": 1, "label_names": ["one"]}', "2 labels, but 1 have names"),
        ('{"version": 1, "label_names": 3}', "label_names"),
        ('{"version": 1, "voxel_size": [1, -1, 1]}', "voxel_size"),
        ('{"version": 1, "background": true, "label_names": null, "patch_size": [0, 1, 1]}', "patch_size"),
    ],
)
def test_what_we_stored_may_be_damaged_too(metadata: str, message: str, saved: Path) -> None:
    if saved.suffix == ".h5":
        with h5py.File(saved, "r+") as file:
            file.attrs["deepscem_tui"] = metadata
    else:
        with zipfile.ZipFile(saved) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(saved, "w") as archive:
            for name, content in (members | {"deepscem_tui.json": metadata.encode()}).items():
                archive.writestr(name, content)
    with pytest.raises(ModelError, match=message):
        read_info(saved)


def test_names_that_a_terminal_would_trip_over(small: tuple[Any, ModelInfo], saved: Path) -> None:
    save_model(small[0], replace(small[1], label_names=("a\x1b[31m", "b\n")), saved, overwrite=True)
    assert read_info(saved).label_names == ("a\N{REPLACEMENT CHARACTER}[31m", "b\N{REPLACEMENT CHARACTER}")

"""The action export-model: ONNX files of every kind of layer, computed by onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_network_options import FOR_DEEPSCEM, FOR_KERAS_3

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import MissingLibraryError, ModelError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.sharing import onnx_files
from deepscem_tui.engine.sharing.export import export_model
from deepscem_tui.engine.system import extras

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

OTHERS: list[dict[str, Any]] = [
    {},
    {"architecture": "fcn", "dimension": 3, "activation": "softmax", "kernel_size": 5},
    {"context_slices": 1, "activation": "softmax", "depth": 3},
    {"normalization": "none", "dimension": 3, "up": "interpolated", "blocks_per_level": 1},
]


def uneven(path: Path, **settings: Any) -> Path:
    """A network with weights that no layer has by itself, and results that are not saturated."""
    create_model(p.CreateModel(**{"out": path, "labels": 2, "filters": 3, "depth": 2, **settings}), Context())
    model, info = load_model(path)
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(-0.1, 0.1, weight.shape) for weight in model.get_weights()])
    save_model(model, info, path, overwrite=True)
    return path


def computed(path: Path, image: np.ndarray) -> np.ndarray:
    (result,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": image})
    return np.asarray(result)


@pytest.mark.parametrize("settings", OTHERS + FOR_DEEPSCEM + FOR_KERAS_3, ids=str)
def test_onnxruntime_computes_what_keras_does(settings: dict[str, Any], tmp_path: Path) -> None:
    path = uneven(tmp_path / "m.keras", **settings)
    out = tmp_path / "m.onnx"
    facts = export_model(p.ExportModel(model=path, out=out), Context()).facts
    assert 0 <= facts["largest_difference"] <= 1e-4
    assert facts["bytes"] == out.stat().st_size
    model, info = load_model(path)
    shape = (8, 20, 16) if info.dimension == 3 else (24, 16)  # not the one that the action looks at
    image = np.random.default_rng(1).random((3, 1 + 2 * info.context, *shape), dtype=np.float32)
    found = np.moveaxis(computed(out, image), 1, -1)
    expected = model(np.moveaxis(image, 1, -1), training=False).numpy()
    assert expected.std(axis=tuple(range(expected.ndim - 1))).min() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def foreign(dimension: int, path: Path) -> Path:
    """A network of layers that ours do not have."""
    import keras
    from keras import layers

    def of(kind: str) -> Any:
        return getattr(layers, kind.format(f"{dimension}D"))

    keras.utils.set_random_seed(0)
    image = keras.Input((None,) * dimension + (1,))
    x = of("Conv{}")(6, 3, dilation_rate=2, padding="same", activation="gelu")(image)
    x = layers.LayerNormalization()(x)
    top = of("Conv{}")(6, 3, groups=3, padding="same", activation="elu")(x)
    x = of("AveragePooling{}")(3, 2, padding="same")(top)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.GroupNormalization(groups=-1, center=False)(x)
    a = layers.LeakyReLU(0.2)(of("Conv{}")(4, 2, padding="same", activation="selu")(x))
    b = layers.ELU(0.7)(of("Conv{}")(4, 1, activation="swish")(x))
    c = layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3)(of("Conv{}")(4, 1, activation="tanh")(x))
    joined = [layers.Add()([a, b, c]), layers.Average()([a, b, c]), layers.Maximum()([a, b, c])]
    x = layers.Concatenate()([*joined, layers.Multiply()([a, b, c])])
    x = of("Conv{}")(6, 1, activation="softsign")(layers.GaussianNoise(0.1)(layers.Dropout(0.5)(x)))
    x = of("MaxPooling{}")(2, 2)(x)
    x = of("Conv{}Transpose")(4, 3, strides=2, padding="same", activation="softplus")(x)
    x = of("Conv{}Transpose")(6, 1, strides=2, padding="valid", activation="exponential")(x)
    x = layers.Add()([x, top])
    x = layers.Softmax()(of("Conv{}")(3, 4, padding="same")(x))
    keras.Model(image, x).save(path)
    return path


@pytest.mark.parametrize("dimension", [2, 3])
def test_layers_of_other_programs(dimension: int, tmp_path: Path) -> None:
    path, out = foreign(dimension, tmp_path / "m.keras"), tmp_path / "m.onnx"
    assert export_model(p.ExportModel(model=path, out=out), Context()).facts["largest_difference"] <= 1e-4
    model, _ = load_model(path)
    shape = (4, 12, 8)[-dimension:]
    image = np.random.default_rng(1).random((2, 1, *shape), dtype=np.float32)
    expected = model(np.moveaxis(image, 1, -1), training=False).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(np.moveaxis(computed(out, image), 1, -1), expected, atol=1e-4)


def test_the_file_says_what_its_numbers_are(tmp_path: Path) -> None:
    path, out = uneven(tmp_path / "m.keras", activation="softmax", dimension=3, anisotropy=1), tmp_path / "m.onnx"
    model, info = load_model(path)
    known = {"voxel_size": (30.0, 8.0, 8.0), "voxel_unit": "nm", "thresholds": (0.25, 0.5), "named": True}
    info = type(info)(**{**vars(info), **known, "label_names": ("mito", "\u00e9")})
    save_model(model, info, path, overwrite=True)
    result = export_model(p.ExportModel(model=path, out=out), Context())
    assert result.tables[0].rows == [(0, "mito", 0.25), (1, "\u00e9", 0.5), (2, "background", None)]
    session = onnxruntime.InferenceSession(str(out))
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["labels"]) == ["mito", "\u00e9"]
    assert json.loads(said["thresholds"]) == [0.25, 0.5]
    assert json.loads(said["axes"]) == ["batch", "channel", "z", "y", "x"]
    assert json.loads(said["sizes_multiple_of"]) == {"z": 1, "y": 2, "x": 2}
    assert json.loads(said["voxel_size_zyx"]) == [30, 8, 8]
    assert said["normalization"].startswith("min-max")
    assert (session.get_inputs()[0].shape, session.get_outputs()[0].shape) == (
        ["batch", 1, "z", "y", "x"], ["batch", 3, "z", "y", "x"],
    )  # fmt: skip


def test_a_result_that_differs_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = uneven(tmp_path / "m.keras")
    compute = onnx_files.Shared.compute
    for change, said in ((lambda x: x + 2e-4, "0.0002"), (lambda x: x * np.nan, "nan"), (lambda x: x[:1], "nan")):
        monkeypatch.setattr(onnx_files.Shared, "compute", lambda self, image, by=change: by(compute(self, image)))
        with pytest.raises(ModelError, match=f"is not written.*differ from those of Keras by {said}"):
            export_model(p.ExportModel(model=path, out=tmp_path / "m.onnx"), Context())
    assert [item.name for item in tmp_path.iterdir()] == ["m.keras"]


def test_a_file_that_onnxruntime_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = uneven(tmp_path / "m.keras")
    monkeypatch.setattr("deepscem_tui.engine.sharing.export.write_onnx", lambda _, path: path.write_bytes(b"no model"))
    with pytest.raises(ModelError, match=r"m\.onnx is not written, since onnxruntime cannot use it"):
        export_model(p.ExportModel(model=path, out=tmp_path / "m.onnx"), Context())
    assert [item.name for item in tmp_path.iterdir()] == ["m.keras"]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = uneven(tmp_path / "m.keras"), tmp_path / "m.onnx"
    with pytest.raises(ParameterError, match=r"does not end in \.onnx"):
        export_model(p.ExportModel(model=path, out=tmp_path / "m.pb"), Context())
    assert export_model(p.ExportModel(model=path, out=out, dry_run=True), Context()).facts["bytes"] is None
    context = Context()
    context.stop.request("test")
    with pytest.raises(Stopped):
        export_model(p.ExportModel(model=path, out=out), context)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_files, "_LARGEST", 100)
        with pytest.raises(ResourceError, match="less than 2 GiB"):
            export_model(p.ExportModel(model=path, out=out), Context())
    with monkeypatch.context() as patch:
        patch.setattr(onnx_files, "available_memory", lambda: 100_000)
        with pytest.raises(ResourceError, match=r"takes about 0\.0 GiB, and 0\.0 GiB"):
            export_model(p.ExportModel(model=path, out=out, dry_run=True), Context())
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(ParameterError, match="--overwrite"):
        export_model(p.ExportModel(model=path, out=out), Context())
    assert out.read_text() == "mine"
    export_model(p.ExportModel(model=path, out=out, overwrite=True), Context())
    onnx.checker.check_model(str(out))


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_told_before_anything_is_computed(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = uneven(tmp_path / "m.keras")

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == library else name)
    for dry_run in (True, False):
        with pytest.raises(MissingLibraryError, match=rf"{library}, which.*pip install 'deepscem-tui\[onnx\]'"):
            export_model(p.ExportModel(model=path, out=tmp_path / "m.onnx", dry_run=dry_run), Context())
    assert not (tmp_path / "m.onnx").exists()

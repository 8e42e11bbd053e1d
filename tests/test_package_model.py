"""The action package-model: packages that the BioImage Model Zoo's own validator accepts."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from test_export_model import uneven

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError, MissingLibraryError, ModelError, ParameterError, Stopped
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.sharing import description, package
from deepscem_tui.engine.sharing.package import package_model

core = pytest.importorskip("bioimageio.core", reason="the extra 'bioimageio' is not installed")

WHO = ("A. Author; Institute of Cells; 0000-0002-1825-0097", "\u00e9. B")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven(tmp_path_factory.mktemp("model") / "mito_net.keras")


def known(path: Path, **facts: Any) -> Path:
    """The model with something said of it."""
    network, info = load_model(path)
    save_model(network, replace(info, **facts), path, overwrite=True)
    return path


def volume(path: Path, shape: tuple[int, int, int] = (20, 40, 70)) -> Path:
    """An image file with outliers, so that rules of normalisation differ."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(120, 20, shape) + 40 * np.sin(np.arange(shape[0]))[:, None, None]
    voxels.reshape(-1)[::501] = 255
    tifffile.imwrite(path, voxels.clip(0, 255).astype(np.uint8), imagej=True)
    return path


def made(model: Path, out: Path, **further: Any) -> Any:
    return package_model(p.PackageModel(model=model, out=out, **{"author": WHO, **further}), Context())


def read(out: Path) -> tuple[dict[str, Any], zipfile.ZipFile]:
    archive = zipfile.ZipFile(out)
    return json.loads(archive.read("bioimageio.yaml")), archive


@pytest.mark.parametrize(
    ("settings", "normalization", "rules"),
    [
        ({"depth": 3}, "min-max", ["ensure_dtype", "scale_range", "clip"]),
        ({"dimension": 3, "anisotropy": 1}, "percentiles, each slice", ["ensure_dtype", "scale_range", "clip"]),
        (
            {"context_slices": 1, "activation": "softmax"},
            "mean-deviation, each slice",
            ["ensure_dtype", "zero_mean_unit_variance", "scale_linear", "clip"],
        ),
        ({"activation": "linear"}, "type range", ["ensure_dtype"]),
    ],
    ids=["min-max", "percentiles", "deviations", "type"],
)
def test_the_validator_accepts_it(settings: Any, normalization: str, rules: list[str], tmp_path: Path) -> None:
    model = known(uneven(tmp_path / "m.keras", **settings), normalization=normalization, patch_size=(16, 32, 64))
    out = tmp_path / "m.zip"
    facts = made(model, out, image=volume(tmp_path / "i.tif")).facts
    assert facts["test_patch"] == "the middle of i.tif"
    summary = core.test_model(out)
    assert summary.status == "passed", summary
    said, archive = read(out)
    assert [step["id"] for step in said["inputs"][0]["preprocessing"]] == rules
    shape = np.load(archive.open("test_input.npy")).shape
    assert list(shape) == facts["test_shape"]
    assert np.load(archive.open("test_output.npy")).std() > 1e-3
    sides = {axis["id"]: axis["size"] for axis in said["inputs"][0]["axes"] if axis["type"] == "space"}
    for (axis, size), side in zip(sides.items(), shape[2:], strict=True):
        halo = said["outputs"][0]["axes"][2 + list(sides).index(axis)]["halo"]
        assert side >= size["min"] > 2 * halo
        assert halo % 2 == 0  # which earlier validators insist on
        assert (side - size["min"]) % size["step"] == 0


def test_what_the_package_says(tmp_path: Path) -> None:
    training = {"data_set": "liver", "epochs": 7, "steps": 700, "validation_f1": 0.8125, "validation_loss": 0.2}
    model = known(
        uneven(tmp_path / "m.h5", activation="softmax"), label_names=("mito chondria", "\u4e2d"), named=True,
        thresholds=(0.25, 0.5), voxel_size=(30.0, 8.0, 8.0), voxel_unit="nm", training=training,
    )  # fmt: skip
    with new_dataset(tmp_path / "d.hdf5", "d", 1) as dataset:
        for name in ("a", "b b"):
            sample = dataset.add_sample(name, (3, 24, 24), members={"image": np.float32, "label_0000": np.uint8})
            sample["image"][0:3] = np.random.default_rng(0).random((3, 24, 24), dtype=np.float32)
            sample["label_0000"][0:3] = np.ones((3, 24, 24), np.uint8)
    out = tmp_path / "m.zip"
    asked = {"name": "Mito net", "description": "Finds them.", "license": "MIT", "cite": ("D; 2025; doi:10.1234/abcd",)}
    result = made(model, out, image=tmp_path / "d.hdf5", sample="b b", **asked)
    assert result.tables[0].rows == []
    assert result.facts["test_patch"] == "the middle of sample b b of d.hdf5"
    assert result.facts["bytes"] == out.stat().st_size
    descr = core.load_description(out)
    assert (descr.name, descr.description, descr.license) == ("Mito net", "Finds them.", "MIT")
    assert [(author.name, author.affiliation) for author in descr.authors] == [
        ("A. Author", "Institute of Cells"), ("\u00e9. B", None),
    ]  # fmt: skip
    assert [(str(entry.text), str(entry.doi)) for entry in descr.cite] == [("D; 2025", "10.1234/abcd")]
    assert descr.outputs[0].axes[1].channel_names == ["mito_chondria", "label_0001", "background"]
    assert (descr.inputs[0].axes[2].unit, descr.inputs[0].axes[2].scale) == ("nanometer", 8)
    assert "'mito chondria' above 0.25" in descr.outputs[0].description
    _, archive = read(out)
    page = archive.read("README.md").decode()
    for text in ("| 0 | mito chondria | 0.25 |", "| 2 | background", "- Epochs: 7", "- Data set: liver", "F1 0.8125",
                 "30 x 8 x 8 nm", "`model.h5`"):  # fmt: skip
        assert text in page
    assert archive.read("model.h5") == model.read_bytes()
    cover = imagecodecs.png_decode(archive.read("cover.png"))
    height, width, _ = cover.shape
    assert width == 2 * height
    assert (cover[:, :height] != cover[:, height:]).any()


def test_a_package_of_little_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.zip"
    result = made(model, out, dry_run=True)
    assert not out.exists()
    assert [option for option, _ in result.tables[0].rows] == ["--license", "--cite", "--description", "--image"]
    assert result.facts["test_patch"] == "made-up cells"
    result = made(model, out)
    assert "4 things to add" in result.summary
    assert core.load_description(out).name == "mito net EM segmentation"
    with pytest.raises(ParameterError, match="--overwrite"):
        made(model, out)


def test_an_image_smaller_than_a_patch_is_mirrored(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.zip"
    made(model, out, image=volume(tmp_path / "i.tif", (1, 5, 300)))
    _, archive = read(out)
    test = np.load(archive.open("test_input.npy"))[0, 0]
    assert test.shape == (256, 256)
    np.testing.assert_array_equal(test[128], test[121])  # rows 0 to 4, and back


def test_what_does_not_compute_the_same_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled = description._preprocessing

    def half(info: Any) -> list[dict[str, Any]]:
        return [*scaled(info), {"id": "scale_linear", "kwargs": {"gain": 0.5, "offset": 0.0}}]

    monkeypatch.setattr(description, "_preprocessing", half)
    with pytest.raises(ModelError, match="the zoo's validator refuses it"):
        made(model, tmp_path / "m.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"license": "no such licence"}, "license: Input should be"),
        ({"author": ("A; B; 0000-0002-1825-0000",)}, "authors 0 orcid: .*not a valid ORCID"),
    ],
    ids=["license", "orcid"],
)
def test_the_validator_says_what_is_wrong(wrong: Any, said: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"m\.zip is not written.*{said}") as caught:
        made(model, tmp_path / "m.zip", **wrong)
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_anything_is_computed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "load_shared", lambda _: pytest.fail("too late"))
    with pytest.raises(ParameterError, match=r"does not end in \.zip"):
        made(model, tmp_path / "m.onnx")
    with pytest.raises(ParameterError, match="--image"):
        made(model, tmp_path / "m.zip", sample="a")
    with pytest.raises(DataError, match=r"missing\.hdf5"):
        made(model, tmp_path / "m.zip", image=tmp_path / "missing.hdf5")
    np.save(tmp_path / "flat.npy", np.full((1, 40, 40), 7, np.uint8))
    with pytest.raises(DataError, match=r"middle of flat\.npy has one grey value everywhere"):
        made(model, tmp_path / "m.zip", image=tmp_path / "flat.npy")
    context = Context()
    context.stop.request("test")
    parameters = p.PackageModel(model=model, out=tmp_path / "m.zip", author=WHO, image=volume(tmp_path / "i.tif"))
    with pytest.raises(Stopped):
        package_model(parameters, context)
    monkeypatch.setattr("deepscem_tui.engine.system.extras.find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'deepscem-tui\[bioimageio\]'"):
        made(model, tmp_path / "m.zip")
    assert not (tmp_path / "m.zip").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"author": ()}, {"author": ("",)}, {"author": ("a/b",)}, {"author": ("A; B; C; D",)}, {"author": ("A; B; 12",)},
        {"cite": ("A paper",)}, {"cite": ("A paper; https://example.org/x",)}, {"name": "a"}, {"name": "a/b c d"},
        {"description": "two\nlines"},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_be_said(wrong: dict[str, Any]) -> None:
    right = {"model": "m.keras", "out": "m.zip", "author": ("A",)}
    assert p.PackageModel.model_validate(right | {"cite": ("A; https://doi.org/10.1234/a",)}).cite == ("A; 10.1234/a",)
    with pytest.raises(ValueError, match="1 validation error"):
        p.PackageModel.model_validate(right | wrong)

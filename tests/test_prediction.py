"""The action `predict`: tiled equals untiled, every way in and out, and what is refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.errors import DataError, EngineError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.formats.volumes import create_volume, open_volume
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.prediction import watch as prediction_watch
from deepscem_tui.engine.prediction.joining import Joining
from deepscem_tui.engine.prediction.network import TileNetwork, load_network
from deepscem_tui.engine.prediction.output import image_files
from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.prediction.seams import Seams
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.sources.inputs import open_labelled
from deepscem_tui.engine.stop import Stop

Array = npt.NDArray[Any]
DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not here")
MODELS = {
    "2d": {"dimension": 2, "depth": 2, "labels": 1, "block": "vgg", "normalization": "none"},
    "2d-deep": {"dimension": 2, "depth": 3, "labels": 1},
    "2d-two": {"dimension": 2, "depth": 2, "labels": 2, "block": "vgg"},
    "2d-softmax": {"dimension": 2, "depth": 2, "labels": 2, "activation": "softmax", "architecture": "fcn"},
    "3d": {"dimension": 3, "depth": 2, "labels": 1},
    "3d-softmax": {"dimension": 3, "depth": 2, "labels": 2, "activation": "softmax"},
}


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.progressed: list[tuple[str, float, float]] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        self.progressed.append((task, done, total))

    def event(self, kind: str, **facts: Any) -> None:
        self.events.append((kind, json.loads(json.dumps(facts))))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small networks, untrained: what they say means nothing but depends on every voxel in reach."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, settings in MODELS.items():
        path = folder / f"{name}.keras"
        action = ACTIONS["create-model"]
        values = {"out": path, "filters": 3, "blocks_per_level": 1, **settings}
        action.carry_out(build(action, values), Context())
        made[name] = path
    return made


def image(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise of the full range, so that normalising it is dividing by 255."""
    voxels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    voxels.flat[:2] = 0, 255
    return voxels


def run(model: Path, source: Path, out: Path, context: Context | None = None, **options: Any) -> Result:
    options = {"precision": "float32"} | options  # whatever the processor prefers
    return predict(p.Predict(model=model, input=source, out=out, **options), context or Context())


def untiled(model: Path, voxels: Array, n_labels: int) -> Array:
    """The extended image in one call: (labels, Z, Y, X)."""
    keras_model, info = load_model(model)  # not folded
    step = 2 ** (MODELS[model.stem]["depth"] - 1)  # type: ignore[operator]
    steps = (1 if info.dimension == 2 else step, step, step)
    padding = [(0, -size % step) for size, step in zip(voxels.shape, steps, strict=True)]
    whole = np.pad(voxels.astype(np.float32) / 255, padding, mode="reflect")
    network = TileNetwork(lambda: keras_model)
    values = network(whole[:, None])[:, 0] if info.dimension == 2 else network(whole[None])[0]
    z, y, x = voxels.shape
    return np.moveaxis(values[:z, :y, :x, :n_labels], -1, 0)


def predictions(path: Path, sample: str, n_labels: int) -> Array:
    with h5py.File(path) as file:
        return np.stack([file[sample][f"prediction_{index:04d}"][()] for index in range(n_labels)])


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("name", "shape", "patch"),
    [
        ("2d-deep", (2, 90, 61), (64, 64)),
        ("2d", (1, 5, 3), None),  # smaller than anything
        ("2d-two", (3, 50, 1), (32, 32)),
        ("2d-softmax", (2, 41, 50), (36, 36)),
        ("3d", (29, 21, 40), (20, 20, 20)),
        ("3d", (1, 1, 1), None),
        ("3d-softmax", (17, 30, 9), (20, 20, 20)),
    ],
)
def test_tiled_equals_untiled(
    models: dict[str, Path], tmp_path: Path, name: str, shape: tuple[int, int, int], patch: tuple[int, ...] | None
) -> None:
    voxels = image(shape)
    np.save(tmp_path / "image.npy", voxels)
    out = tmp_path / "out.hdf5"
    result = run(models[name], tmp_path / "image.npy", out, patch_size=patch, probabilities=True, batch_size=3)
    (plan,) = result.facts["plans"]
    assert plan["exact"]
    n_labels = int(MODELS[name]["labels"])  # type: ignore[call-overload]
    expected = untiled(models[name], voxels, n_labels)
    if patch is not None and min(shape) > 1:
        assert plan["tiles"] > shape[0] if name.startswith("2d") else plan["tiles"] > 1
        assert expected.std() > 1e-3  # there is something to differ
    found = predictions(out, "image", n_labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masks_are_probabilities_above_the_threshold(models: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", image((2, 20, 24)))
    run(models["2d-two"], tmp_path / "image.npy", tmp_path / "p.hdf5", probabilities=True)
    values = predictions(tmp_path / "p.hdf5", "image", 2)
    level = float(np.median(values))
    result = run(models["2d-two"], tmp_path / "image.npy", tmp_path / "m.hdf5", threshold=level)
    masks = predictions(tmp_path / "m.hdf5", "image", 2)
    assert masks.dtype == np.uint8
    assert np.array_equal(masks, values > np.float32(level))
    shares = [row["foreground"] for row in result.tables[1].as_dicts()]
    assert shares == pytest.approx(masks.mean(axis=(1, 2, 3)), abs=1e-6)


def test_thresholds_that_the_model_carries(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    model, info = load_model(models["2d-two"])
    run(models["2d-two"], samples, tmp_path / "p.hdf5", probabilities=True, sample=("a",))
    values = predictions(tmp_path / "p.hdf5", "a", 2)
    levels = (round(float(np.quantile(values[0], 0.2)), 6), round(float(np.quantile(values[1], 0.7)), 6))
    save_model(model, replace(info, thresholds=levels), tmp_path / "tuned.keras", overwrite=False)
    run(tmp_path / "tuned.keras", samples, tmp_path / "m.hdf5", sample=("a",))
    masks = predictions(tmp_path / "m.hdf5", "a", 2)
    assert np.array_equal(masks, np.stack([values[0] > np.float32(levels[0]), values[1] > np.float32(levels[1])]))
    with h5py.File(tmp_path / "m.hdf5") as file:
        assert tuple(file["a"].attrs["threshold"]) == levels
    run(tmp_path / "tuned.keras", samples, tmp_path / "o.hdf5", sample=("a",), threshold=0.5)  # what is asked for wins
    assert np.array_equal(predictions(tmp_path / "o.hdf5", "a", 2), values > np.float32(0.5))
    save_model(model, replace(info, thresholds=(0.1, 0.2, 0.3)), tmp_path / "bad.keras", overwrite=False)
    with pytest.raises(DataError, match="3 thresholds for 2 labels"):
        run(tmp_path / "bad.keras", samples, tmp_path / "b.hdf5")


def test_a_plain_image_gives_what_its_data_set_gives(models: dict[str, Path], tmp_path: Path) -> None:
    voxels = image((3, 18, 22)).astype(np.uint16) * 7 + 1000
    np.save(tmp_path / "image.npy", voxels)
    normalised = ((voxels - 1000) / (255 * 7)).astype(np.float32)
    with new_dataset(tmp_path / "set.hdf5", "set", 0) as made:
        sample = made.add_sample("s", voxels.shape, {"image": np.float32})
        sample["image"][0:3] = normalised
    for source in ("image.npy", "set.hdf5"):
        run(models["2d"], tmp_path / source, tmp_path / f"{source}.hdf5", probabilities=True)
    one, other = predictions(tmp_path / "image.npy.hdf5", "image", 1), predictions(tmp_path / "set.hdf5.hdf5", "s", 1)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_network_is_traced_once_for_every_shape(models: dict[str, Path]) -> None:
    model, _ = load_model(models["2d"])
    calls = []
    real = model.call
    model.call = lambda *args, **kwargs: (calls.append(1), real(*args, **kwargs))[1]
    network = TileNetwork(lambda: model)
    for shape in ((1, 1, 8, 8), (3, 1, 8, 8), (1, 1, 8, 8), (3, 1, 8, 8)):
        assert network(np.zeros(shape, np.float32)).shape == (*shape, 1)
    assert len(calls) == 2


@needs_deepscem
def test_deepscems_way_of_joining_gives_its_stored_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = "deepscem_tui.engine.prediction.outlook.best_precision"
    monkeypatch.setattr(best, lambda: "bfloat16")  # would differ by 1e-2
    report = Listener()
    options = {"sample": ("a",), "join": "deepscem", "patch_size": (32, 32), "probabilities": True, "precision": "auto"}
    out = tmp_path / "out.hdf5"
    run(DEEPSCEM / "unet2d_residual.h5", DEEPSCEM / "dataset.hdf5", out, Context(report), **options)
    expected = np.load(DEEPSCEM / "infer_pad_32_overlap_a.npy", allow_pickle=False)
    np.testing.assert_allclose(predictions(out, "a", 2), np.moveaxis(expected, -1, 0), atol=1e-5)
    assert report.warnings == []
    usual = tmp_path / "usual.hdf5"
    run(DEEPSCEM / "unet2d_residual.h5", DEEPSCEM / "dataset.hdf5", usual, **options | {"join": "crop"})
    assert np.abs(predictions(usual, "a", 2) - predictions(out, "a", 2)).max() > 1e-3


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_deepscems_way_of_joining_without_overlap(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    voxels = image((5, 20, 24))
    np.save(tmp_path / "image.npy", voxels)
    out, window = tmp_path / "out.hdf5", (16, 16) if name == "2d" else (4, 16, 16)
    result = run(
        models[name], tmp_path / "image.npy", out, join="deepscem-no-overlap", patch_size=window, probabilities=True
    )
    (plan,) = result.facts["plans"]
    assert (plan["tiles"], plan["join"]) == (
        (20, "deepscem-no-overlap") if name == "2d" else (8, "deepscem-no-overlap")
    )
    # A window alone is what the network says of it.
    first = voxels[: 1 if name == "2d" else 4, :16, :16]
    network = load_network(models[name], "float32")
    expected = network(first[None].astype(np.float32) / 255)[0, ..., 0]
    np.testing.assert_allclose(predictions(out, "image", 1)[0, : len(first), :16, :16], expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------ in and out


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A data set of two samples."""
    path = tmp_path / "set.hdf5"
    with new_dataset(path, "set", 0) as made:
        for seed, (name, shape) in enumerate({"a": (2, 16, 20), "β 2": (3, 9, 9)}.items()):
            sample = made.add_sample(name, shape, {"image": np.float32})
            sample["image"][0 : shape[0]] = image(shape, seed) / np.float32(255)
    return path


def test_a_data_set_of_predictions_is_as_deepscem_reads_it(
    models: dict[str, Path], samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.hdf5"
    result = run(models["2d-two"], samples, out)
    with h5py.File(out) as file, h5py.File(samples) as before:
        assert set(file) == {"a", "β 2"}
        assert file.attrs["labels"] == 2
        for name in file:
            assert set(file[name]) == {"image", "prediction_0000", "prediction_0001"}
            assert list(file[name].attrs["shape"]) == list(file[name]["image"].shape)
            assert np.array_equal(file[name]["image"], before[name]["image"])
            assert file[name]["prediction_0000"].dtype == np.uint8
            assert str(models["2d-two"]) in str(dict(file[name].attrs))
    with open_dataset(out) as made:
        assert [len(sample.predictions) for sample in made.samples.values()] == [2, 2]
    assert [row["sample"] for row in result.tables[0].as_dicts()] == ["a", "β 2"]


def test_chosen_samples_without_their_image(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    run(models["2d"], samples, tmp_path / "out.hdf5", sample=("β 2",), image=False)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert set(file) == {"β 2"}
        assert set(file["β 2"]) == {"prediction_0000"}


def test_label_names_of_the_model_become_aliases(samples: Path, tmp_path: Path) -> None:
    with new_dataset(tmp_path / "like.hdf5", "like", 2, aliases=("mito", "ER / Golgi?".replace("/", "and"))):
        pass
    action = ACTIONS["create-model"]
    values = {"out": tmp_path / "named.keras", "like": tmp_path / "like.hdf5", "filters": 2, "depth": 2}
    action.carry_out(build(action, values), Context())
    run(tmp_path / "named.keras", samples, tmp_path / "out.hdf5")
    with open_dataset(tmp_path / "out.hdf5") as made:
        assert tuple(made.aliases) == ("mito", "ER and Golgi?")
    run(tmp_path / "named.keras", samples, tmp_path / "out.tif", sample=("a",))
    assert {path.name for path in tmp_path.glob("*.tif")} == {"out_mito.tif", "out_ER and Golgi_.tif"}


def test_a_tiff_out_of_a_tiff(models: dict[str, Path], tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "image.tif", image((4, 15, 12)), imagej=True, resolution=(0.25, 0.25),
        metadata={"axes": "ZYX", "spacing": 8.0, "unit": "nm"},
    )  # fmt: skip
    run(models["3d"], tmp_path / "image.tif", tmp_path / "mask.tif")
    run(models["3d"], tmp_path / "image.tif", tmp_path / "p.tiff", probabilities=True)
    mask, values = tifffile.imread(tmp_path / "mask.tif"), tifffile.imread(tmp_path / "p.tiff")
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}
    assert np.array_equal(mask > 0, values > 0.5)
    assert values.dtype == np.float32
    with tifffile.TiffFile(tmp_path / "mask.tif") as tiff:
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["spacing"] == 8.0


def test_slices_are_predicted_as_the_volume_that_they_are(models: dict[str, Path], tmp_path: Path) -> None:
    voxels = image((4, 15, 12))
    tifffile.imwrite(tmp_path / "image.tif", voxels, photometric="minisblack")
    (tmp_path / "slices").mkdir()
    for z, slice_ in enumerate(voxels):
        (tmp_path / "slices" / f"{z}.png").write_bytes(imagecodecs.png_encode(slice_))
    run(models["3d"], tmp_path / "image.tif", tmp_path / "expected.tif")
    expected = tifffile.imread(tmp_path / "expected.tif")
    for given in ("slices", "slices/*.png"):
        out = tmp_path / f"of_{len(given)}.hdf5"
        run(models["3d"], tmp_path / given, out)
        with open_dataset(out) as dataset:
            found = np.asarray(dataset.sample("slices").predictions[0])
        assert np.array_equal(found > 0, expected > 0)
    run(models["2d"], tmp_path / "slices" / "0.png", tmp_path / "one.tif")
    assert tifffile.imread(tmp_path / "one.tif").shape == (15, 12)
    with pytest.raises(ParameterError, match="would become one of them"):
        run(models["3d"], tmp_path / "slices", tmp_path / "slices" / "out.tif")


@pytest.mark.parametrize("end", [".mrc", ".nii.gz", ".ome.zarr", ".h5:/mask"])
def test_formats_out_of_formats(models: dict[str, Path], tmp_path: Path, end: str) -> None:
    pytest.importorskip("zarr" if "zarr" in end else "nibabel" if "nii" in end else "mrcfile")
    voxels, given = image((4, 15, 12)), Path(f"{tmp_path}/image{end}")
    for path in (tmp_path / "image.npy", given):
        with create_volume(path, voxels.shape, voxels.dtype, voxel_size=(8, 4, 4), voxel_unit="nm") as volume:
            volume.write(voxels)
    run(models["3d"], tmp_path / "image.npy", tmp_path / "expected.npy")
    out = Path(f"{tmp_path}/out{end}")
    run(models["3d"], given, out)
    with open_volume(out) as made:
        assert np.array_equal(made.read(0, 4) > 0, np.load(tmp_path / "expected.npy"))
        assert made.voxel_size is not None
    with pytest.raises(ParameterError, match="exists already"):
        run(models["3d"], given, out)
    run(models["3d"], given, out, overwrite=True)
    with pytest.raises(ParameterError, match="itself"):
        run(models["3d"], given, given, overwrite=True)
    if ".nii" not in end and ".h5" not in end:
        with pytest.raises(ParameterError, match="do not say that whole numbers"):
            run(models["3d"], given, tmp_path / f"p{end}", probabilities=True, probability_type="uint8")


@pytest.mark.parametrize("big", [False, True], ids=["ImageJ", "OME"])
def test_bytes_in_a_tiff_are_read_as_the_probabilities_that_they_stand_for(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    if big:
        monkeypatch.setattr("deepscem_tui.engine.formats.volume_writer.BIG", 0)
    np.save(tmp_path / "image.npy", image((3, 15, 12)))
    exact, out = tmp_path / "exact.tif", tmp_path / "bytes.tif"
    run(models["2d"], tmp_path / "image.npy", exact, probabilities=True)
    run(models["2d"], tmp_path / "image.npy", out, probabilities=True, probability_type="uint8")
    values = tifffile.imread(exact)
    with tifffile.TiffFile(out) as tiff:
        if big:
            assert "<Value>0.00392156862745098</Value>" in str(tiff.ome_metadata)
        else:  # as ImageJ writes and shows calibrated grey values
            facts = {name: (tiff.imagej_metadata or {}).get(name) for name in ("cf", "c0", "c1", "vunit")}
            assert facts == {"cf": 0, "c0": 0.0, "c1": 1 / 255, "vunit": "probability"}
    assert tifffile.imread(out).dtype == np.uint8
    with open_labelled(out, "predictions") as read:
        (found,) = read.samples["bytes"].labels
        np.testing.assert_allclose(found[0:3], values, atol=0.5 / 255 + 1e-6)
    run(models["2d"], tmp_path / "image.npy", tmp_path / "mask.tif")
    with open_labelled(tmp_path / "mask.tif", "predictions") as read:
        assert read.samples["mask"].labels[0][0:3].dtype == np.uint8  # a mask has no scale


def test_half_precision_in_a_tiff_is_widened_and_said(models: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", image((3, 15, 12)))
    report = Listener()
    given = models["2d"], tmp_path / "image.npy", tmp_path / "p.tif"
    options = {"probabilities": True, "probability_type": "float16"}
    planned = run(*given, dry_run=True, **options)
    assert planned.facts["disk_bytes"] == 3 * 15 * 12 * (2 + 4)  # slabs, and the file
    run(*given, Context(report), **options)
    assert any("will hold float32" in message for message in report.messages)
    assert tifffile.imread(tmp_path / "p.tif").dtype == np.float32


def test_a_2d_image(models: dict[str, Path], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", image((13, 17)))
    run(models["2d"], tmp_path / "image.tif", tmp_path / "mask.tif")
    assert tifffile.imread(tmp_path / "mask.tif").shape == (13, 17)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.full((2, 8, 8), 7, np.uint8), "same value, 7"),
        (np.where(np.eye(8)[None] > 0, np.nan, np.arange(64.0).reshape(1, 8, 8)).astype(np.float32), "8 voxels"),
    ],
    ids=["constant", "nan"],
)
def test_odd_images_are_predicted_with_a_warning(
    models: dict[str, Path], tmp_path: Path, voxels: Array, words: str
) -> None:
    np.save(tmp_path / "image.npy", voxels)
    report = Listener()
    run(models["2d"], tmp_path / "image.npy", tmp_path / "o.hdf5", Context(report), probabilities=True)
    assert any(words in warning for warning in report.warnings)
    assert np.isfinite(predictions(tmp_path / "o.hdf5", "image", 1)).all()
    with h5py.File(tmp_path / "o.hdf5") as file:
        assert np.isfinite(file["image"]["image"][()]).all()


def test_names_of_tiff_files() -> None:
    out = Path("d") / "seg.tif"
    assert image_files(out, ["a/b"]) == [out]
    assert [path.name for path in image_files(out, ["a/b", "ä c"])] == ["seg_a_b.tif", "seg_ä c.tif"]
    assert [path.name for path in image_files(out, ["a:b", "A?b"])] == ["seg_0_a_b.tif", "seg_1_A_b.tif"]


@pytest.mark.parametrize("kind", ["float32", "float16", "uint8"])
def test_probabilities_of_every_type_are_read_as_what_they_stand_for(
    models: dict[str, Path], samples: Path, tmp_path: Path, kind: str
) -> None:
    exact, out = tmp_path / "exact.hdf5", tmp_path / "out.hdf5"
    run(models["2d-two"], samples, exact, probabilities=True)
    result = run(models["2d-two"], samples, out, probabilities=True, probability_type=kind)
    with h5py.File(out) as file:
        stored = file["a"]["prediction_0001"]
        assert stored.dtype == kind
        assert stored.attrs.get("scale") == (1 / 255 if kind == "uint8" else None)
    with open_dataset(out) as made:
        found = made.sample("a").predictions[1]
        assert found.dtype.kind == "f"
        kept = found[0:2]
        np.testing.assert_allclose(kept, predictions(exact, "a", 2)[1], atol=0.5 / 255 + 1e-6)
        shares = [np.mean(member[0:2] > 0.5) for member in made.sample("a").predictions]
    for name, values in (
        ("crop-sample", {"file": out, "sample": "a", "z": "0:2", "name": "copy"}),
        ("save-dataset", {"file": out, "out": tmp_path / "saved.hdf5"}),
    ):
        ACTIONS[name].carry_out(build(ACTIONS[name], values), Context())
    with open_dataset(tmp_path / "saved.hdf5") as saved:
        for copy in ("a", "copy"):
            np.testing.assert_allclose(saved.sample(copy).predictions[1][0:2], kept, atol=1e-6)
    rows = [row["foreground"] for row in result.tables[1].as_dicts() if row["sample"] == "a"]
    assert rows == pytest.approx(shares, abs=1e-6)


# ------------------------------------------------------------------------------------------------ reports


def test_progress_events_and_previews(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    report, folder = Listener(), tmp_path / "run"
    folder.mkdir()
    run(models["2d-two"], samples, tmp_path / "out.hdf5", Context(report, folder=folder))
    tiles = [(done, total) for task, done, total in report.progressed if task == "Predicting"]
    assert tiles[-1] == (5, 5)
    kinds = [kind for kind, _ in report.events]
    assert kinds[0] == "started"
    assert "tiles" in kinds
    previews = [facts for kind, facts in report.events if kind == "preview"]
    assert [facts["sample"] for facts in previews] == ["a", "β 2"]
    for facts in previews:
        preview = run_preview.read(folder / facts["file"])
        masks = predictions(tmp_path / "out.hdf5", facts["sample"], 2)[:, facts["z"]]
        assert np.array_equal(preview.prediction, masks * 255)
        assert (preview.sample, preview.z, preview.known) == (facts["sample"], facts["z"], None)


@pytest.mark.parametrize("model", ["2d-two", "3d"])
def test_the_slice_in_hand_fills_in(
    model: str, models: dict[str, Path], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_watch, "_PREVIEW_SECONDS", -1.0)
    monkeypatch.setattr(prediction_watch, "_PREVIEW_SHARE", 1e9)  # always due
    folder = tmp_path / "run"
    folder.mkdir()
    seen: list[run_preview.RunPreview] = []

    class Looker(Reporter):
        def event(self, kind: str, **facts: Any) -> None:
            if kind == "preview":
                seen.append(run_preview.read(folder / facts["file"]))

    patch = (8, 8) if model == "2d-two" else (4, 8, 8)
    run(models[model], samples, tmp_path / "out.hdf5", Context(Looker(), folder=folder), patch_size=patch, batch_size=1)
    of_a = [preview for preview in seen if preview.sample == "a"]
    assert of_a[-1].known is None  # at last the middle slice, whole
    n_labels = len(of_a[0].names)
    masks = predictions(tmp_path / "out.hdf5", "a", n_labels)
    shares = []
    for preview in of_a:
        known = np.ones(preview.image.shape, bool) if preview.known is None else preview.known > 0
        shares.append(known.mean())
        assert np.array_equal(preview.prediction[:, known], masks[:, preview.z][:, known] * 255)
        assert not preview.prediction[:, ~known].any()
    assert min(shares) < 1
    assert sorted(path.suffix for path in (folder / "preview").iterdir()) == [".npz", ".npz"]


def test_a_preview_shows_nothing_that_is_not_computed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where three tiles overlap along Z, what the last of a slab owns belongs to the next slab."""
    monkeypatch.setattr(prediction_watch, "_PREVIEW_SECONDS", -1.0)
    monkeypatch.setattr(prediction_watch, "_PREVIEW_SHARE", 1e9)
    real = Joining.begin
    monkeypatch.setattr(Joining, "begin", lambda self, layer: np.full_like(real(self, layer), 7))
    seen: list[Array] = []
    write = run_preview.write

    def look(path: Path, shown: Array, prediction: Array, *given: Any, known: Array | None = None, **more: Any) -> bool:
        seen.append(prediction if known is None else prediction[:, known])
        return write(path, shown, prediction, *given, known=known, **more)

    monkeypatch.setattr(run_preview, "write", look)
    folder = tmp_path / "run"
    folder.mkdir()
    np.save(tmp_path / "image.npy", image((19, 25, 20)))
    options = {"join": "blend", "patch_size": (12, 12, 12), "batch_size": 1, "probabilities": True}
    run(models["3d"], tmp_path / "image.npy", tmp_path / "out.hdf5", Context(folder=folder), **options)
    assert len(seen) > 3
    assert max(part.max(initial=0) for part in seen) <= 1


def test_a_preview_knows_the_threshold(models: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", image((3, 16, 12)))
    for number, options in enumerate(({}, {"probabilities": True})):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        out = tmp_path / f"out{number}.hdf5"
        run(models["2d"], tmp_path / "image.npy", out, Context(folder=folder), threshold=0.2, **options)
        (file,) = (folder / "preview").iterdir()
        assert run_preview.read(file).thresholds == ((0.2,) if options else (0.5,))  # masks are cut already


def test_a_dry_run_writes_nothing_and_tells_the_plan(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    result = run(models["2d"], samples, tmp_path / "out.hdf5", dry_run=True, patch_size=(16, 16))
    assert set(tmp_path.iterdir()) == before
    tiles = plan_tiles((2, 16, 20), 2, 2, result.facts["plans"][0]["radius"], (16, 16))
    assert result.facts["plans"][0] == SamplePlan("a", tiles, 4).as_json()
    json.dumps(result.as_json())


def test_a_dry_run_that_may_measure_estimates_the_time(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    values = p.Predict(model=models["2d"], input=samples, out=tmp_path / "out.hdf5", dry_run=True)
    result = predict(values, Context(measuring=True))
    assert result.facts["seconds"] >= 0
    assert "in about" in result.summary
    kept = 2 * 16 * 3 + 3 * 9 * 2  # rows of 20 and 9 bits
    assert result.facts["disk_bytes"] == kept + (2 * 16 * 20 + 3 * 9 * 9) * (1 + 4)  # a mask, and a float32 image
    assert "seconds" not in predict(values, Context()).facts


def test_diagnostics_are_kept(models: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    report = Listener()
    result = run(models["2d-two"], samples, tmp_path / "out.hdf5", Context(report), patch_size=(8, 8))
    events = [facts for kind, facts in report.events if kind == "diagnostics"]
    assert events == result.facts["diagnostics"]
    assert [facts["sample"] for facts in events] == ["a", "β 2"]
    for facts in events:
        assert facts["voxels_per_second"] > 0
        assert 0 <= facts["waiting_for_data"] <= 1
        assert 0 <= facts["waiting_for_disk"] <= 1


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_seam_score_tells_whether_tiles_show(step: float) -> None:
    plan = plan_tiles((4, 64, 64), 2, 8, 3, (32, 32))
    seams = Seams(plan)
    y = np.arange(64)[:, None] / 100 + np.zeros((64, 64))
    for (first, _), number in zip(plan.axes[1].cores, range(9), strict=False):
        y[first:] += step * (number > 0)
    seams.take(np.broadcast_to(y.astype(np.float32), (1, 4, 64, 64)))
    assert seams.score is not None
    assert (0.5 < seams.score < 2) if step == 0 else seams.score > 10
    assert Seams(plan_tiles((4, 64, 64), 2, 8, 3)).score is None  # one tile has no seams


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_seam_score_sees_borders_along_z_for_what_is_usual_along_z(step: float) -> None:
    """A volume that changes ten times as much along Z as along Y and X: that alone is no seam."""
    plan = plan_tiles((64, 32, 32), 3, 8, 3, (24, 24, 24))
    seams = Seams(plan)
    z, y = np.arange(64)[:, None, None] / 10, np.arange(32)[:, None] / 100
    for layer, number in zip(plan.layers(), range(9), strict=False):
        slab = np.zeros((layer.own[1] - layer.own[0], 32, 32)) + z[slice(*layer.own)] + y
        seams.take((slab + step * number)[None].astype(np.float32))
    assert seams.score is not None
    assert (0.5 < seams.score < 2) if step == 0 else seams.score > 3
    whole = Seams(plan_tiles((64, 32, 32), 3, 8, 3))
    whole.take(np.zeros((1, 64, 32, 32), np.float32))
    assert whole.score is None


def test_a_margin_below_the_reach_is_warned_of(models: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", image((1, 64, 64)))
    report = Listener()
    run(models["2d-deep"], tmp_path / "image.npy", tmp_path / "o.hdf5", Context(report), patch_size=(16, 17))
    assert any("less than the network's reach" in warning for warning in report.warnings)
    assert any("16,17 became 16,20" in message for message in report.messages)


# ------------------------------------------------------------------------------------------------ refusals


def refused(case: str, models: dict[str, Path], samples: Path, folder: Path) -> dict[str, Any]:
    """Parameters that cannot be carried out."""
    (folder / "there.hdf5").write_text("mine")
    (folder / "there_label_0000.tif").write_text("mine")
    np.save(folder / "image.npy", image((2, 8, 8)))
    usual = {"model": models["2d"], "input": samples, "out": folder / "out.hdf5"}
    return (
        usual
        | {
            "exists": {"out": folder / "there.hdf5"},
            "suffix": {"out": folder / "out.png"},
            "input": {"out": samples, "overwrite": True},
            "model": {"out": folder / "m.hdf5", "model": folder / "m.hdf5"},
            "several": {"out": folder / "out.tif"},
            "unknown": {"sample": ("a", "zz")},
            "sample-of-image": {"input": folder / "image.npy", "sample": ("a",)},
            "patch": {"patch_size": (4, 8, 8)},
            "patch-3d": {"model": models["3d"], "patch_size": (8, 8)},
            "window": {"patch_size": (18, 18), "join": "deepscem"},
            "no-input": {"input": folder / "nothing.tif"},
            "no-model": {"model": folder / "nothing.keras"},
        }[case]
    )


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ("exists", ParameterError, ["there.hdf5", "exists already"]),
        ("suffix", ParameterError, [".png", ".tif"]),
        ("input", ParameterError, ["OUT is INPUT"]),
        ("model", EngineError, ["m.hdf5"]),
        ("several", ParameterError, ["--sample", "'a', 'β 2'"]),
        ("unknown", DataError, ["'zz'", "'a', 'β 2'"]),
        ("sample-of-image", ParameterError, ["image file"]),
        ("patch", ParameterError, ["4,8,8", "2D", "Y,X"]),
        ("patch-3d", ParameterError, ["8,8", "3D", "Z,Y,X"]),
        ("window", ParameterError, ["18,18", "multiples of 4", "--patch-size 16,16"]),
        ("no-input", DataError, ["nothing.tif"]),
        ("no-model", DataError, ["nothing.keras"]),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    models: dict[str, Path], samples: Path, tmp_path: Path, case: str, error: type[EngineError], words: list[str]
) -> None:
    values = refused(case, models, samples, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    report = Listener()
    with pytest.raises(error) as raised:
        predict(p.Predict(**values), Context(report))
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not any(kind == "started" for kind, _ in report.events)


def test_tiles_that_do_not_fit_the_memory_are_refused(
    models: dict[str, Path], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda: 10_000)
    with pytest.raises(ResourceError, match=r"GiB of memory.*--patch-size"):
        run(models["2d"], samples, tmp_path / "out.hdf5", patch_size=(16, 20))
    assert not (tmp_path / "out.hdf5").exists()


def test_tiles_are_as_large_as_the_memory_allows(
    models: dict[str, Path], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = []
    for free in (30_000, 60_000, 10**9):
        monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda free=free: free)
        result = run(models["2d"], samples, tmp_path / "out.hdf5", dry_run=True, sample=("a",))
        assert result.facts["memory_bytes"] <= free
        tiles.append(int(np.prod(result.facts["plans"][0]["tile"])))
    assert tiles[0] < tiles[1] < tiles[2] == 16 * 20


def test_slabs_of_volumes_become_thinner_where_they_do_not_fit_and_are_refused_at_last(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "image.npy", image((40, 64, 64)))
    given = models["3d"], tmp_path / "image.npy", tmp_path / "out.hdf5"
    deep = []
    for free in (2_000_000, 10**9):
        monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda free=free: free)
        result = run(*given, dry_run=True)
        (plan,) = result.facts["plans"]
        assert result.facts["memory_bytes"] <= free
        deep.append(plan["tile"][0])
    assert deep[0] < deep[1] == 40
    monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda: 2_000_000)
    for options in (
        {"patch_size": (40, 12, 12)},
        {"join": "deepscem", "patch_size": (64, 4, 4), "probabilities": True},
    ):
        with pytest.raises(ResourceError, match=r"Slabs of \d+ x 64 x 64 voxels of 'image' need.*--patch-size"):
            run(*given, dry_run=True, **options)


@pytest.mark.parametrize("out", ["out.hdf5", "out.tif"])
def test_a_stop_leaves_nothing_behind(models: dict[str, Path], tmp_path: Path, out: str) -> None:
    np.save(tmp_path / "image.npy", image((6, 32, 32)))
    stop = Stop()

    class Stopper(Listener):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if task == "Predicting" and done >= 2:
                stop.request("test")

    before = set(tmp_path.iterdir())
    with pytest.raises(Stopped):
        run(models["2d"], tmp_path / "image.npy", tmp_path / out, Context(Stopper(), stop), batch_size=1)
    assert set(tmp_path.iterdir()) == before

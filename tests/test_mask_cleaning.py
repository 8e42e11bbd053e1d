"""Masks smoothed, filled and rid of small objects: as scipy does in memory, whatever the slabs; and the files made."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in, write_ignored
from deepscem_tui.engine.errors import ParameterError, ResourceError
from deepscem_tui.engine.objects import components as slabwise
from deepscem_tui.engine.objects.clean_masks import clean_masks
from deepscem_tui.engine.objects.cleaning import Cleaner, cleaned, smoothed
from deepscem_tui.engine.objects.components import Mask, Watch
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.results import Result

Array = npt.NDArray[Any]


def cleaned_in(mask: Array, thickness: int, size: tuple[float, float, float] | None = None, **options: Any) -> Array:
    """An array cleaned in slabs of so many slices."""
    parameters = p.CleanMasks.model_validate({"input": "i", "out": "o.tif", **options})
    with pytest.MonkeyPatch.context() as patch, ExitStack() as files:
        patch.setattr(slabwise, "SLAB_VOXELS", thickness * mask[0].size)
        voxels = Voxels("a", size, "nm" if size else "")
        cleaner = Cleaner(parameters, voxels, None, Watch(Context(), "", 1), files, Path(tempfile.gettempdir()))
        found = cleaned(Mask(mask.shape, lambda z0, z1: mask[z0:z1]), cleaner)
        return np.concatenate([found.read(z0, z1) for z0, z1 in slabwise.slabs(mask.shape)])


VOLUMES = given(
    st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.floats(0.3, 0.9),
)


@settings(max_examples=60)
@VOLUMES
def test_holes_are_scipy_s(shape: tuple[int, int, int], seed: int, thickness: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    expected = ndimage.binary_fill_holes(mask) if shape[0] > 1 else ndimage.binary_fill_holes(mask[0])[None]
    assert np.array_equal(cleaned_in(mask, thickness, fill_holes="all"), expected)
    in_slices = np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
    assert np.array_equal(cleaned_in(mask, thickness, fill_holes="all", holes_in="slices"), in_slices)
    holes, _ = ndimage.label(expected & ~mask)
    small = np.isin(holes, np.flatnonzero(np.bincount(holes.reshape(-1)) <= 2)) & (holes > 0)
    assert np.array_equal(cleaned_in(mask, thickness, fill_holes=2), mask | small)


@settings(max_examples=60)
@VOLUMES
def test_small_objects_go(shape: tuple[int, int, int], seed: int, thickness: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < share / 2
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    large = np.bincount(labels.reshape(-1)) >= 3
    assert np.array_equal(cleaned_in(mask, thickness, min_size=3, connectivity=26), mask & large[labels])


@settings(max_examples=30)
@VOLUMES
def test_smoothing_is_scipy_s(shape: tuple[int, int, int], seed: int, thickness: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    deviations = [0.5 if shape[0] > 1 else 0, 1, 1]
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), deviations, mode="nearest")
    assert np.array_equal(cleaned_in(mask, thickness, (20, 10, 10), smooth="10nm"), blurred > 0.5)


def test_smoothing_comes_first_then_holes_then_sizes() -> None:
    ring = np.zeros((1, 30, 30), bool)
    ring[0, 5:20, 5:20] = True
    ring[0, 9:16, 9:16] = False
    ring[0, 25:28, 25:28] = True  # smaller than the hole
    found = cleaned_in(ring, 1, fill_holes="all", min_size=100, smooth=0.5)
    assert found[0, 12, 12]
    assert not found[0, 22:, 22:].any()


# ------------------------------------------------------------------------------------------------ the action


def clean(source: Path, out: Path, **options: Any) -> Result:
    parameters = p.CleanMasks.model_validate({"input": source, "out": out, "min_size": "3", **options})
    return clean_masks(parameters, Context())


MASK = np.zeros((6, 10, 10), np.uint8)
MASK[1:4, 2:6, 2:6] = 1
CLEAN = MASK.copy()
MASK[5, 9, 9] = 1


def dataset(path: Path, kind: str, arrays: list[Array]) -> Path:
    with new_dataset(path, "test", len(arrays), aliases=("mito", "er")[: len(arrays)]) as made:
        members = {f"{kind}_{index:04d}": array.dtype for index, array in enumerate(arrays)}
        about = {"voxel_size": (30.0, 8.0, 8.0), "voxel_unit": "nm", "threshold": 0.4}
        for name in ("a", "b"):
            sample = made.add_sample(name, MASK.shape, {"image": np.float16, **members}, about)
            sample["image"][0:6] = np.full(MASK.shape, 0.5)
            for index, array in enumerate(arrays):
                sample[f"{kind}_{index:04d}"][0:6] = array
    return path


def test_what_nobody_has_annotated_stays_background(tmp_path: Path) -> None:
    source = dataset(tmp_path / "l.hdf5", "label", [MASK])
    unknown = np.zeros(MASK.shape, bool)
    unknown[2, 3:5, 3:5] = True  # in the middle of the object
    with change_dataset(source) as changed:
        write_ignored(changed, "a", None, lambda _, z0, z1: unknown[z0:z1])
    clean(source, tmp_path / "out.hdf5", sample=("a",), fill_holes="all", smooth="0.1")
    with open_dataset(tmp_path / "out.hdf5") as made:
        assert np.array_equal(made.sample("a").labels[0][2, 3:5, 3:5], np.zeros((2, 2)))
        assert made.sample("a").labels[0][2].sum() == 12


def test_smoothing_that_does_not_fit_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = Mask((9, 4, 4), lambda z0, z1: np.zeros((z1 - z0, 4, 4), bool))
    blurred = smoothed(mask, [1.0, 1.0, 1.0])
    monkeypatch.setattr("deepscem_tui.engine.objects.components.available_memory", lambda: 9 * 16 * 7 - 1)
    assert blurred.read(0, 4).shape == (4, 4, 4)
    with pytest.raises(ResourceError, match="9 slices of 4 x 4 voxels"):
        blurred.read(0, 9)


def test_outlines_are_not_smoothed_beyond_measure(tmp_path: Path) -> None:
    source = dataset(tmp_path / "p.hdf5", "prediction", [MASK])
    with pytest.raises(ParameterError, match="2,500 voxels") as caught:
        clean(source, tmp_path / "out.hdf5", smooth="20um")
    assert "unit" in caught.value.hint
    assert not (tmp_path / "out.hdf5").exists()


def test_predictions_stay_predictions_and_the_image_comes_along(tmp_path: Path) -> None:
    source = dataset(tmp_path / "p.hdf5", "prediction", [MASK, MASK * np.float32(0.7)])
    result = clean(source, tmp_path / "out.hdf5")
    with open_dataset(tmp_path / "out.hdf5") as made:
        assert (made.n_labels, made.aliases, list(made.samples)) == (2, ("mito", "er"), ["a", "b"])
        for sample in made.samples.values():
            assert [np.array_equal(member, CLEAN) for member in sample.predictions] == [True, True]
            assert not sample.labels
            assert np.array_equal(sample.image, np.full(MASK.shape, 0.5))
            assert (sample.voxel_size, sample.voxel_unit) == ((30, 8, 8), "nm")
            assert sample.attributes["cleaned_from"] == str(source)
    assert result.as_json()["foreground"][0] == {"sample": "a", "label": "mito", "before": 49, "after": 48}


def test_labels_stay_labels_with_what_is_labelled(tmp_path: Path) -> None:
    source = dataset(tmp_path / "t.hdf5", "label", [MASK])
    from deepscem_tui.engine.datasets.dataset import change_dataset

    with change_dataset(source) as changed:
        write_ignored(changed, "a", None, lambda _, z0, z1: np.arange(600).reshape(6, 10, 10)[z0:z1] % 7 == 0)
    clean(source, tmp_path / "out.hdf5", sample=("a",))
    with open_dataset(source) as old, open_dataset(tmp_path / "out.hdf5") as made:
        (sample,) = made.samples.values()
        ignored, wanted = ignored_in(sample), ignored_in(old.sample("a"))
        assert ignored is not None
        assert wanted is not None
        assert np.array_equal(ignored[:], wanted[:])
        assert np.array_equal(sample.labels[0], CLEAN & (wanted[:] == 0))


def test_an_image_file_gives_an_image_file_and_several_labels_several(tmp_path: Path) -> None:
    about = {"axes": "ZYX", "spacing": 30, "unit": "nm"}
    tifffile.imwrite(tmp_path / "m.tif", MASK * 255, imagej=True, resolution=(1 / 8, 1 / 8), metadata=about)
    clean(tmp_path / "m.tif", tmp_path / "out.tif", min_size="5000nm3", smooth=None)
    with tifffile.TiffFile(tmp_path / "out.tif") as made:
        assert np.array_equal(made.asarray(), CLEAN * 255)
        assert made.imagej_metadata is not None
        assert made.imagej_metadata["spacing"] == 30
    source = dataset(tmp_path / "p.hdf5", "prediction", [MASK, CLEAN])
    with pytest.raises(ParameterError, match="'a', 'b'"):
        clean(source, tmp_path / "two.tif")
    clean(source, tmp_path / "two.tif", sample=("b",))
    assert np.array_equal(tifffile.imread(tmp_path / "two_mito.tif"), CLEAN * 255)
    assert (tmp_path / "two_er.tif").exists()


def test_a_store_of_ours_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
    source = dataset(tmp_path / "p.hdf5", "prediction", [MASK])
    for _ in range(2):
        clean(source, tmp_path / "o.ome.zarr", sample=("a",), overwrite=True)
    assert (tmp_path / "o_mito.ome.zarr" / "zarr.json").exists() or (tmp_path / "o.ome.zarr" / "zarr.json").exists()


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    source = dataset(tmp_path / "p.hdf5", "prediction", [MASK])
    with pytest.raises(ParameterError, match="input itself"):
        clean(source, source, overwrite=True)
    (tmp_path / "out.hdf5").write_text("mine")
    with pytest.raises(ParameterError, match="exists already"):
        clean(source, tmp_path / "out.hdf5")
    assert clean(source, tmp_path / "out.hdf5", overwrite=True, dry_run=True).summary.startswith("Would clean 2 masks")
    assert (tmp_path / "out.hdf5").read_text() == "mine"
    with pytest.raises(ValueError, match="nothing to do"):
        p.CleanMasks.model_validate({"input": "i", "out": "o"})
    with pytest.raises(ValueError, match="such as 500, or a volume"):
        p.CleanMasks.model_validate({"input": "i", "out": "o", "min_size": "5 parsec3"})

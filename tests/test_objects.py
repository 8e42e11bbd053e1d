"""Objects of masks: the same as scipy and scikit-image find in memory, whatever the slabs; their table and files."""

from __future__ import annotations

import csv
import json
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
from skimage.measure import regionprops

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError, DatasetError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.objects import components as slabwise
from deepscem_tui.engine.objects.components import Mask, Watch, components
from deepscem_tui.engine.objects.find_objects import find_objects
from deepscem_tui.engine.objects.given import given_components
from deepscem_tui.engine.objects.scratch import open_scratch
from deepscem_tui.engine.objects.surface_area import SurfaceCounter
from deepscem_tui.engine.objects.touching import split
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

Array = npt.NDArray[Any]

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))


def blobs(shape: tuple[int, int, int], seed: int, share: float = 0.4) -> Array:
    return np.random.default_rng(seed).random(shape) < share


def in_order(labels: Array) -> Array:
    """Numbered anew in the order of their first voxels."""
    _, first, inverse = np.unique(labels.reshape(-1), return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(labels.reshape(-1)[first] == 0, -1, first)))
    found = order[inverse].reshape(labels.shape)
    return found if (labels == 0).any() else found + 1


@pytest.fixture
def slab_voxels(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda count: monkeypatch.setattr(slabwise, "SLAB_VOXELS", count)


def found_in(mask: Array, connectivity: int, thickness: int, probabilities: Array | None = None) -> Any:
    """Numbers and statistics of the objects of an array that is read in slabs of so many slices."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as files:
        patch.setattr(slabwise, "SLAB_VOXELS", thickness * mask[0].size)
        ids = files.enter_context(open_scratch(mask.shape, Path(tempfile.gettempdir())))
        values = None if probabilities is None else (lambda z0, z1: probabilities[z0:z1])
        watch = Watch(Context(), "Testing", mask.size)
        found = components(Mask(mask.shape, lambda z0, z1: mask[z0:z1]), connectivity, ids, watch, values)
        return found.read(0, mask.shape[0]), found.statistics


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def found(path: Path, report: Reporter | None = None, **options: Any) -> Any:
    return find_objects(p.FindObjects.model_validate({"input": path, **options}), Context(report or Reporter()))


# ------------------------------------------------------------------------------------------------ components


@settings(max_examples=80)
@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([6, 18, 26]), st.integers(1, 3), st.floats(0.1, 0.9))
def test_objects_are_scipy_s_whatever_the_slabs(
    shape: tuple[int, int, int], seed: int, connectivity: int, thickness: int, share: float
) -> None:
    mask = blobs(shape, seed, share)
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    expected, count = ndimage.label(mask, structure)
    values = np.random.default_rng(seed).random(shape).astype(np.float32)
    ids, statistics = found_in(mask, connectivity, thickness, values)
    assert np.array_equal(ids, in_order(expected))
    whole = found_in(mask, connectivity, shape[0], values)[1]
    for name in ("voxels", "first", "low", "high", "sums", "products", "probability"):
        assert np.array_equal(getattr(statistics, name), getattr(whole, name)), name
    regions = regionprops(ids.astype(np.int32), intensity_image=values) if count else []
    assert len(statistics) == len(regions) == count
    for index, region in enumerate(regions):
        assert statistics.voxels[index] == region.area
        assert (*statistics.low[index], *statistics.high[index]) == region.bbox
        assert statistics.centroids[index] == pytest.approx(region.centroid)
        assert statistics.mean_probability[index] == pytest.approx(values[ids == index + 1].mean(), abs=1e-6)
        spread = np.cov(region.coords.T, bias=True).reshape(3, 3) + np.eye(3) / 12
        assert statistics.covariances[index] == pytest.approx(spread, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 9), (7, 1, 6), (3, 3, 3), (2, 3, 3), (9, 9, 9)], ids=str)
@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_as_many_objects_as_there_can_be(shape: tuple[int, int, int], connectivity: int) -> None:
    lattice = np.zeros(shape, bool)
    lattice[::2, ::2, ::2] = True
    ids, count = slabwise.labelled(lattice, connectivity)
    assert count == lattice.sum() == len(np.unique(ids[lattice]))


# ------------------------------------------------------------------------------------------------ surfaces


@pytest.mark.parametrize("sides", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0)], ids=["cubes", "anisotropic"])
def test_the_surface_of_a_ball(sides: tuple[float, float, float], slab_voxels: Any) -> None:
    axes = np.meshgrid(*(np.arange(-24, 25) for _ in range(3)), indexing="ij")
    ball = sum((axis * side) ** 2 for axis, side in zip(axes, sides, strict=True)) < 20**2
    counter = SurfaceCounter(1, sides, flat=False)
    numbers = ball.astype(np.uint32)
    for z in range(0, len(numbers), 7):
        counter.add(numbers[z : z + 7], numbers[z + 7] if z + 7 < len(numbers) else None)
    assert counter.surfaces == pytest.approx([4 * np.pi * 20**2], rel=0.03)


def test_the_surface_of_a_box_is_a_little_too_small() -> None:
    numbers = np.zeros((30, 30, 30), np.uint32)
    numbers[5:25, 5:25, 5:25] = 1
    counter = SurfaceCounter(1, (1.0, 1.0, 1.0), flat=False)
    counter.add(numbers, None)
    assert 0.9 * 6 * 20**2 < counter.surfaces[0] < 6 * 20**2


def test_the_outline_of_a_disc() -> None:
    y, x = np.ogrid[-24:25, -24:25]
    counter = SurfaceCounter(1, (1.0, 0.5, 0.5), flat=True)
    counter.add((y * y + x * x < 20**2).astype(np.uint32)[None], None)
    assert counter.surfaces == pytest.approx([2 * np.pi * 10], rel=0.03)


# ------------------------------------------------------------------------------------------------ touching objects


def two_balls(distance: int, radius: int = 8) -> Array:
    z, y, x = np.ogrid[-10:11, -10:11, -10 : distance + 11]
    return (z * z + y * y + x * x < radius**2) | (z * z + y * y + (x - distance) ** 2 < radius**2)


@pytest.mark.parametrize(("depth", "parts"), [("2", 2), ("40nm", 1), ("16nm", 2)])
def test_touching_balls_are_divided_at_a_neck_that_is_deep_enough(tmp_path: Path, depth: str, parts: int) -> None:
    balls = tmp_path / "balls.tif"
    tifffile.imwrite(
        balls,
        two_balls(13).astype(np.uint8),
        imagej=True,
        resolution=(1 / 8, 1 / 8),
        metadata={"spacing": 8, "unit": "nm"},
    )
    assert len(found(balls).facts["objects"]) == 1
    result = found(balls, split_touching=depth, out=tmp_path / "ids.tif", fill_holes="all")
    assert len(result.facts["objects"]) == parts
    ids = tifffile.imread(tmp_path / "ids.tif")
    assert np.array_equal(ids > 0, two_balls(13))
    if parts == 2:
        left, right = np.bincount(ids.reshape(-1))[1:]
        assert left == pytest.approx(right, rel=0.1)
        assert (ids[10, 10, 10], ids[10, 10, -11]) == (1, 2)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 18, 26]), st.integers(1, 4))
def test_divided_objects_are_the_same_whatever_the_slabs(seed: int, connectivity: int, thickness: int) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random((9, 20, 20)), 1.5)
    mask = smooth > np.median(smooth)
    values = smooth.astype(np.float32)
    results = []
    for slices in (thickness, 9):
        with pytest.MonkeyPatch.context() as patch, open_scratch(mask.shape, Path(tempfile.gettempdir())) as ids:
            patch.setattr(slabwise, "SLAB_VOXELS", slices * mask[0].size)
            part = Watch(Context(), "Testing", mask.size)
            read = lambda z0, z1: values[z0:z1]  # noqa: E731
            whole = components(Mask(mask.shape, lambda z0, z1: mask[z0:z1]), connectivity, ids, part, read)
            divided = split(whole, 0.5, (2.0, 1.0, 1.0), connectivity, Context(), read)
            results.append((divided.components.read(0, 9), divided.components.statistics))
    (one, counts), (other, _) = results
    assert np.array_equal(one, other)
    assert np.array_equal(one > 0, mask)
    assert np.array_equal(one, in_order(one))
    assert np.array_equal(counts.voxels, np.bincount(one.reshape(-1), minlength=len(counts) + 1)[1:])
    for index in range(len(counts)):
        assert counts.mean_probability[index] == pytest.approx(values[one == index + 1].mean(), abs=1e-6)
        assert counts.centroids[index] == pytest.approx(np.argwhere(one == index + 1).mean(axis=0))


def test_an_object_that_memory_does_not_suffice_for_is_left_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "balls.npy", two_balls(13))
    monkeypatch.setattr("deepscem_tui.engine.objects.touching.available_memory", lambda: 1000)
    assert len(found(tmp_path / "balls.npy", split_touching="2").facts["objects"]) == 1


# ------------------------------------------------------------------------------------------------ the action


def dataset(path: Path, samples: dict[str, list[Array]], size: bool = True) -> Path:
    attributes = {"voxel_size": (30.0, 8.0, 8.0), "voxel_unit": "nm"} if size else {}
    labels = len(next(iter(samples.values())))
    with new_dataset(path, "test", labels, aliases=("mito", "er")[:labels]) as made:
        for name, arrays in samples.items():
            members = {f"prediction_{index:04d}": array.dtype for index, array in enumerate(arrays)}
            sample = made.add_sample(name, arrays[0].shape, {"image": np.float16, **members}, attributes)
            for index, array in enumerate(arrays):
                sample[f"prediction_{index:04d}"][0 : len(array)] = array
    return path


BOX = np.zeros((6, 12, 14), np.uint8)
BOX[1:3, 2:6, 3:11] = 1
BOX[4:6, 8:10, 2:4] = 1


def test_the_table_is_in_real_units(tmp_path: Path) -> None:
    file = dataset(tmp_path / "p.hdf5", {"a": [BOX]})
    result = found(file, csv=tmp_path / "objects.csv", out=tmp_path / "ids.tif")
    large, small = result.as_json()["objects"]
    assert (large["sample"], large["label"], large["id"], large["unit"]) == ("a", "mito", 1, "µm")
    assert large["voxels"] == 64
    assert large["volume"] == pytest.approx(64 * 0.03 * 0.008**2)
    assert large["diameter"] == pytest.approx((6 / np.pi * large["volume"]) ** (1 / 3))
    assert (large["z"], large["y"], large["x"]) == pytest.approx((1.5 * 0.03, 3.5 * 0.008, 6.5 * 0.008))
    assert (large["voxel_z"], large["voxel_y"], large["voxel_x"]) == (1.5, 3.5, 6.5)
    assert [large[key] for key in ("z0", "z1", "y0", "y1", "x0", "x1")] == [1, 3, 2, 6, 3, 11]
    assert (large["length_z"], large["length_x"]) == pytest.approx((0.06, 0.064))
    assert large["elongation"] == pytest.approx(8 * 8 / (2 * 30))  # of a box the axes are as its sides
    assert large["flatness"] == pytest.approx(2 * 30 / (4 * 8))
    assert (large["touches_edge"], small["touches_edge"]) == (False, True)
    assert large["mean_probability"] is None
    with (tmp_path / "objects.csv").open(newline="") as lines:
        written = list(csv.DictReader(lines))
    assert [row["id"] for row in written] == ["1", "2"]
    assert float(written[0]["volume"]) == pytest.approx(large["volume"])
    ids = tifffile.imread(tmp_path / "ids.tif")
    assert ids.dtype == np.uint16
    assert np.array_equal(ids, ndimage.label(BOX)[0])
    json.dumps(result.as_json())


def test_without_a_voxel_size_lengths_are_in_voxels_and_units_are_refused(tmp_path: Path) -> None:
    file = dataset(tmp_path / "p.hdf5", {"a": [BOX]}, size=False)
    assert found(file).facts["objects"][0]["volume"] == 64
    assert found(file).facts["objects"][0]["unit"] == "voxels"
    with pytest.raises(ParameterError, match="set-voxel-size"):
        found(file, min_size="0.01um3", dry_run=True)


def test_small_objects_and_those_at_the_edge_are_left_out_and_the_rest_numbered_anew(tmp_path: Path) -> None:
    many = BOX.copy()
    many[0, 0, 0] = 1  # the first, at the edge
    file = dataset(tmp_path / "p.hdf5", {"a": [many]})
    assert [row["voxels"] for row in found(file).facts["objects"]] == [64, 8, 1]
    (only,) = found(file, leave_out_edge=True, out=tmp_path / "ids.tif").facts["objects"]
    assert (only["id"], only["voxels"]) == (1, 64)
    assert np.bincount(tifffile.imread(tmp_path / "ids.tif").reshape(-1))[1:].tolist() == [64]
    assert [row["voxels"] for row in found(file, min_size="8").facts["objects"]] == [64, 8]
    assert [row["voxels"] for row in found(file, min_size=f"{9 * 30 * 64}nm3").facts["objects"]] == [64]


def test_each_sample_and_label_has_a_file_and_probabilities_a_mean(tmp_path: Path) -> None:
    sure = np.where(BOX, 0.75, 0.25).astype(np.float32)
    file = dataset(tmp_path / "p.hdf5", {"a": [sure, 0 * sure], "b": [sure, sure]})
    result = found(file, out=tmp_path / "ids.tif")
    assert sorted(path.name for path in tmp_path.glob("ids*")) == [
        f"ids_{s}_{n}.tif" for s in "ab" for n in ("er", "mito")
    ]
    assert {row["mean_probability"] for row in result.facts["objects"]} == {0.75}
    counts = {(row["sample"], row["label"]): row["objects"] for row in result.as_json()["counts"]}
    assert counts == {("a", "mito"): 2, ("a", "er"): 0, ("b", "mito"): 2, ("b", "er"): 2}
    assert len(found(file, sample=("a",)).tables[1].rows) == 2
    assert not found(file, threshold=0.8).facts["objects"]
    with pytest.raises(DatasetError, match="'a', 'b'"):
        found(file, sample=("c",))


@settings(max_examples=40)
@given(SHAPES, st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([np.uint16, np.float32, np.uint8]))
def test_numbers_that_objects_have_are_kept(
    shape: tuple[int, int, int], seed: int, thickness: int, kind: type[Any]
) -> None:
    values = (np.random.default_rng(seed).integers(0, 6, shape) * 40).astype(kind)
    with pytest.MonkeyPatch.context() as patch, open_scratch(shape, Path(tempfile.gettempdir())) as ids:
        patch.setattr(slabwise, "SLAB_VOXELS", thickness * values[0].size)
        objects = given_components(shape, lambda z0, z1: values[z0:z1], ids, Watch(Context(), "", 1))
        back = np.concatenate([[0], objects.names])[objects.read(0, shape[0])]
    assert np.array_equal(back, values)
    assert np.array_equal(objects.statistics.voxels, [np.count_nonzero(values == name) for name in objects.names])
    assert list(objects.statistics.first) == sorted(np.flatnonzero(values == name)[0] for name in objects.names)


def test_objects_of_another_program_are_measured_under_their_numbers(tmp_path: Path) -> None:
    touching = np.zeros((2, 6, 9), np.uint16)
    touching[:, 1:5, 1:4], touching[:, 1:5, 4:8], touching[0, 0, 0] = 700, 20, 70
    tifffile.imwrite(tmp_path / "ids.tif", touching, photometric="minisblack")
    heard = Listener()
    assert len(found(tmp_path / "ids.tif", heard).facts["objects"]) == 2
    assert "--instances" in heard.warnings[0]
    rows = found(tmp_path / "ids.tif", instances=True, min_size=2, out=tmp_path / "out.tif").facts["objects"]
    assert [(row["id"], row["voxels"]) for row in rows] == [(20, 32), (700, 24)]
    assert set(np.unique(tifffile.imread(tmp_path / "out.tif"))) == {0, 20, 700}
    np.save(tmp_path / "large.npy", np.array([[[2**33]]]))
    with pytest.raises(DataError, match="number"):
        found(tmp_path / "large.npy", instances=True)
    with pytest.raises(ValueError, match="objects already"):
        p.FindObjects.model_validate({"input": "i", "instances": True, "smooth": 1})


def test_a_slice_has_areas_and_outlines(tmp_path: Path) -> None:
    np.save(tmp_path / "slice.npy", BOX[1])
    (row,) = found(tmp_path / "slice.npy").facts["objects"]
    assert (row["volume"], row["touches_edge"], row["flatness"]) == (32, False, None)
    assert row["diameter"] == pytest.approx((4 * 32 / np.pi) ** 0.5)
    assert row["surface"] == pytest.approx(24, rel=0.15)


def test_a_disk_without_room_for_the_numbers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.system.space.free_bytes", lambda _: 10)
    with pytest.raises(ResourceError, match="24 bytes are needed"), open_scratch((1, 2, 3), tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_slices_that_do_not_fit_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (100, 1024, 1024)
    needed = 4 * 2**20 * 40  # of the smallest slab that is taken
    monkeypatch.setattr(slabwise, "available_memory", lambda: needed)
    assert next(slabwise.slabs(shape)) == (0, 4)
    monkeypatch.setattr(slabwise, "available_memory", lambda: needed - 1)
    with pytest.raises(ResourceError, match=r"4 slices of 1024 x 1024 voxels need 0\.2 GiB of memory, 0\.2 are free"):
        next(slabwise.slabs(shape))
    with pytest.raises(ResourceError, match="8 slices"):  # a format may have them read together
        next(slabwise.slabs(shape, 8))
    assert list(slabwise.slabs((1, 1024, 1024))) == [(0, 1)]


def test_more_pieces_than_memory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "noise.npy", blobs((4, 40, 40), 0, 0.2))
    monkeypatch.setattr("deepscem_tui.engine.objects.components.available_memory", lambda: 260_000)
    with pytest.raises(ResourceError, match="Is it noise"):
        found(tmp_path / "noise.npy")


def test_nothing_is_written_over_or_left(tmp_path: Path) -> None:
    file = dataset(tmp_path / "p.hdf5", {"a": [BOX]})
    table, out = tmp_path / "t.csv", tmp_path / "ids.tif"
    table.write_text("mine")
    with pytest.raises(ParameterError, match="exists already"):
        found(file, csv=table, out=out)
    with pytest.raises(ParameterError, match="cannot be both"):
        found(file, csv=file, overwrite=True)
    assert (table.read_text(), out.exists()) == ("mine", False)
    assert not found(file, csv=table, out=out, overwrite=True, dry_run=True).tables
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        find_objects(p.FindObjects(input=file, csv=table, out=out, overwrite=True), Context(stop=stop))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.hdf5", "t.csv"]

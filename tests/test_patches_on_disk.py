"""Samples that do not fit into memory: read as they are in the file, or from a copy, they give the same patches."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.errors import DataError, Stopped
from deepscem_tui.engine.patches import (
    Cache,
    PatchSampler,
    Source,
    by_threads,
    cut,
    load_sources,
    loading,
    opened_cache,
    raw_arrays,
)
from deepscem_tui.engine.patches import cache as cache_module
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.raw_arrays import RawArray, raw_member
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

SHAPE = (19, 70, 150)
N_LABELS = 10  # more than fit into a byte


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.warned.append(text)


def arrays() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    image = rng.random(SHAPE).astype(np.float16)
    masks = [(rng.random(SHAPE) < 0.02).astype(np.uint8) for _ in range(N_LABELS)]
    masks[3][:] = 0
    return image, masks


def written_here(path: Path) -> None:
    image, masks = arrays()
    members = {"image": image, **{f"label_{i:04}": mask for i, mask in enumerate(masks)}}
    with new_dataset(path, "d", N_LABELS) as dataset:
        for name in ("a", "b"):
            sample = dataset.add_sample(name, SHAPE, {key: value.dtype for key, value in members.items()})
            for key, value in members.items():
                sample[key][0 : SHAPE[0]] = value


def written_by(path: Path, **options: object) -> None:
    """As DeepSCEM writes it where no options are given."""
    image, masks = arrays()
    with h5py.File(path, "w") as file:
        file.attrs["name"], file.attrs["labels"] = "d", N_LABELS
        for name in ("a", "b"):
            group = file.create_group(name)
            group.attrs["shape"] = SHAPE
            group.create_dataset("image", data=image.astype(np.float32), **options)
            for index, mask in enumerate(masks):
                group.create_dataset(f"label_{index:04}", data=mask, **options)


WAYS = {
    "here": written_here,
    "contiguous": written_by,
    "gzip": partial(written_by, compression="gzip"),
    "chunked": partial(written_by, chunks=(3, 50, 60)),
    "slices": partial(written_by, chunks=(1, 70, 150)),
}


def load(dataset, memory: int, cache: Cache | None = None) -> list[Source]:
    return load_sources(list(dataset.samples.values()), memory, Reporter(), Stop(), cache)


def batches(sources: list[Source], patch, group: str, n: int = 4) -> list[np.ndarray]:
    sampler = PatchSampler(
        sources, patch, 3, focus=0.6, augmentation=strengths(group), flat=patch[0] == 1, seed=5
    )  # fmt: skip
    with by_threads(sampler, 3) as made:
        found = list(made(range(n), None))
    return [array for batch in found for array in (batch.images, batch.labels)]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_patches_from_memory_from_the_file_and_from_a_copy(way: str, tmp_path: Path) -> None:
    WAYS[way](tmp_path / "d.hdf5")
    with open_dataset(tmp_path / "d.hdf5") as dataset, opened_cache(tmp_path / "cache", Reporter()) as cache:
        held, on_disk, by_hdf5 = load(dataset, 1 << 30), load(dataset, 0, cache), load(dataset, 0)
        assert [source.held_bytes for source in held] == [
            np.prod(SHAPE) * (dataset.samples["a"].image.dtype.itemsize + 2)
        ] * 2
        assert all(source.held_bytes == 0 for source in (*on_disk, *by_hdf5))
        assert all(isinstance(source.image, RawArray) for source in on_disk)
        chunks = 3 * 2 * 3 * 8 * 64 * 64  # the labels in two planes of bytes, and the image where it is compressed
        copied = {"here": 2 * 2 * chunks, "gzip": 2 * (2 + 4) * chunks}.get(way, 0)
        assert (tmp_path / "cache" / "voxels.raw").stat().st_size == copied
        for patch in ((1, 24, 40), (7, 32, 16)):
            for group in ("none", "standard"):
                first = batches(held, patch, group)
                for sources in (on_disk, by_hdf5):
                    others = batches(sources, patch, group)
                    assert all(np.array_equal(a, b) for a, b in zip(first, others, strict=True))
        for one, other in zip(held, on_disk, strict=True):
            assert np.array_equal(one.foreground, other.foreground)
            for a, b in zip(cut(one, (2, 3, 5), (4, 30, 60)), cut(other, (2, 3, 5), (4, 30, 60)), strict=True):
                assert np.array_equal(a, b)
            assert np.array_equal(one.labels[9][4], other.labels[9][4])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("way", ["contiguous", "chunked", "slices", "here"])
@pytest.mark.parametrize(("whole", "row_bytes"), [(0, 0), (0, 1 << 13), (1 << 14, 0)])
def test_any_box_of_a_file_is_read_as_hdf5_reads_it(
    way: str, whole: int, row_bytes: int, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(raw_arrays, "_WHOLE", whole)
    monkeypatch.setattr(raw_arrays, "_ROW_BYTES", row_bytes)
    WAYS[way](tmp_path / "d.hdf5")
    rng = np.random.default_rng(1)
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        member = dataset.samples["b"].image
        array = raw_member(member, {})
        assert array is not None
        for _ in range(40):
            ends = [sorted(rng.integers(0, n + 1, 2).tolist()) for n in SHAPE]
            box = tuple(slice(a, b) for a, b in ends)
            assert np.array_equal(array[box], member[box])
        assert np.array_equal(array[3], member[3])
        assert np.array_equal(array[3:5], member[3:5])
        assert np.array_equal(array[2, 5:9, -4:], member[2, 5:9, -4:])


def test_chunks_that_were_never_written_are_empty(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "d.hdf5", "d", 0) as dataset:
        sample = dataset.add_sample("a", (24, 10, 10), {"image": np.float32})
        sample["image"][8:16] = np.ones((8, 10, 10), np.float32)
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        array = raw_member(dataset.samples["a"].image, {})
        assert array is not None
        assert array[4:20].sum() == 8 * 100


def test_a_file_that_became_shorter_is_an_error_in_words(tmp_path: Path) -> None:
    written_by(tmp_path / "d.hdf5")
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        array = raw_member(dataset.samples["b"].labels[-1], {})
        assert array is not None
        with (tmp_path / "d.hdf5").open("rb+") as file:
            file.truncate(5000)
        with pytest.raises(DataError, match="ends too early"):
            array[0]


def test_without_room_the_file_itself_is_read_and_that_is_said(tmp_path: Path, monkeypatch) -> None:
    written_here(tmp_path / "d.hdf5")
    monkeypatch.setattr(cache_module, "_SPARE", 1 << 60)
    listener = Listener()
    with open_dataset(tmp_path / "d.hdf5") as dataset, opened_cache(tmp_path / "cache", listener) as cache:
        sources = load(dataset, 0, cache)
        assert (tmp_path / "cache" / "voxels.raw").stat().st_size == 0
        assert batches(sources, (1, 24, 40), "none")[0].any()
    assert "no room" in listener.warned[0]


def test_a_stop_while_reading_leaves_no_copy(tmp_path: Path) -> None:
    written_here(tmp_path / "d.hdf5")
    stop = Stop()
    stop.request("test")
    with (
        open_dataset(tmp_path / "d.hdf5") as dataset,
        pytest.raises(Stopped),
        opened_cache(tmp_path / "cache", Reporter()) as cache,
    ):
        load_sources(list(dataset.samples.values()), 0, Reporter(), stop, cache)
    assert not (tmp_path / "cache").exists()


def test_large_slices_are_read_in_parts(tmp_path: Path, monkeypatch) -> None:
    written_here(tmp_path / "d.hdf5")
    with open_dataset(tmp_path / "d.hdf5") as dataset, opened_cache(tmp_path / "cache", Reporter()) as cache:
        whole = load(dataset, 1 << 30)[0]
        monkeypatch.setattr(loading, "_SLAB_VOXELS", 8 * 64 * 150)
        assert len(list(loading._slabs(SHAPE))) == 6
        parts = load(dataset, 0, cache)[0]
        assert np.array_equal(whole.foreground, parts.foreground)
        for a, b in zip(whole.labels, parts.labels, strict=True):
            assert np.array_equal(a[0:19], b[0:19])


def test_foreground_is_counted_and_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((11, 70, 45)) < 0.001).astype(np.uint8) * 255
    found = Foreground.of([mask], mask.shape)
    assert np.array_equal(found.by_slice[0], np.count_nonzero(mask, axis=(1, 2)))
    assert found.totals.tolist() == [np.count_nonzero(mask)]
    drawn = [found.draw(0, mask, rng) for _ in range(40 * found.totals[0])]
    counts = {voxel: drawn.count(voxel) for voxel in set(drawn)}
    assert set(counts) == set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    assert min(counts.values()) > 10


def test_drawing_foreground_reads_one_small_block() -> None:
    mask = np.zeros((30, 200, 200), np.uint8)
    mask[10:20, 50:150, 50:150] = 1
    found = Foreground.of([mask], mask.shape)

    sizes: list[int] = []

    class Watched:
        def __getitem__(self, key):
            sizes.append(mask[key].size)
            return mask[key]

    for seed in range(20):
        voxel = found.draw(0, Watched(), np.random.default_rng(seed))
        assert mask[voxel]
    assert max(sizes) <= 8 * 32 * 32
    assert len(sizes) == 20


def test_a_large_sample_is_not_held(tmp_path: Path) -> None:
    """A data set of 2 TB, all holes: what is held of it while patches are drawn is counted."""
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        file.attrs["name"], file.attrs["labels"] = "d", 0
        group = file.create_group("a")
        group.attrs["shape"] = (20_000, 5_000, 5_000)
        group.create_dataset("image", (20_000, 5_000, 5_000), np.float32)
        group["image"][19_999, 4_990:, 4_990:] = 1
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        array = raw_member(dataset.samples["a"].image, {})
        assert array is not None
        assert array[19_990:, 4_000:, 4_900:].sum() == 100
        held = sum(value.nbytes for value in vars(array).values() if isinstance(value, np.ndarray))
        assert held < 1 << 20


def test_several_threads_read_at_once(tmp_path: Path) -> None:
    written_by(tmp_path / "d.hdf5")
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        array, whole = raw_member(dataset.samples["a"].image, {}), dataset.samples["a"].image[...]
        assert array is not None

        def same(seed: int) -> bool:
            z, y, x = (int(np.random.default_rng(seed).integers(n - 8)) for n in SHAPE)
            box = (slice(z, z + 8), slice(y, y + 8), slice(x, x + 8))
            return np.array_equal(array[box], whole[box])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(same, range(300)))

"""Data sets divided: no part knows voxels of another, each has its share, and DeepSCEM can train on all."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_dataset_actions import Heard, do, stopped

from deepscem_tui.engine.dataset_actions.splitting import balanced
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.datasets.leaks import find_overlaps, neighbours
from deepscem_tui.engine.errors import DatasetError, ParameterError, Stopped
from deepscem_tui.engine.stop import Stop

SHAPE = (12, 40, 70)


def make(path: Path, names: tuple[str, ...], shape: tuple[int, int, int] = SHAPE, share: float = 0.2) -> Path:
    """A data set of noise with one label."""
    rng = np.random.default_rng(len(names))
    with new_dataset(path, path.stem, 1, ("mito",)) as made:
        for name in names:
            sample = made.add_sample(name, shape, {"image": np.float32, "label_0000": np.uint8}, {"source": name})
            sample["image"][0 : shape[0]] = rng.random(shape, np.float32)
            sample["label_0000"][0 : shape[0]] = (rng.random(shape) < share).astype(np.uint8)
    return path


def split(file: Path, stop: Stop | None = None, report: Heard | None = None, **values: Any) -> Any:
    given = {"file": file, "out_dir": file.parent / "parts"} | values
    return do("split-dataset", given, report, stop)


def contents(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.iterdir()):
        with open_dataset(path) as dataset:
            found[path.name] = list(dataset.samples)
    return found


def check_apart(one: Path, other: Path) -> None:
    with open_dataset(one) as first, open_dataset(other) as second:
        assert find_overlaps(first, second, Stop()) == []


def test_shares(tmp_path: Path) -> None:
    names = tuple(f"s{number}" for number in range(10))
    file, heard = make(tmp_path / "set.hdf5", names), Heard()
    dry = split(file, valid="20%", test=10, dry_run=True)
    assert not (tmp_path / "parts").exists()
    result = split(file, valid="20%", test=10, report=heard)
    assert "(asked for: train 70 %, valid 20 %, test 10 %)" in dry.summary
    assert dry.facts["contents"] == result.facts["contents"] == contents(tmp_path / "parts")
    assert [(row[0], row[1], row[2]) for row in result.tables[0].rows] == [
        ("train.hdf5", 7, pytest.approx(0.7)),
        ("valid.hdf5", 2, pytest.approx(0.2)),
        ("test.hdf5", 1, pytest.approx(0.1)),
    ]  # fmt: skip
    assert sorted(name for found in contents(tmp_path / "parts").values() for name in found) == sorted(names)
    done, total = heard.tasks["Dividing set.hdf5"]
    assert done == total == result.facts["bytes"]
    with open_dataset(file) as before, open_dataset(tmp_path / "parts" / "valid.hdf5") as valid:
        assert (valid.n_labels, valid.aliases, valid.name) == (1, ("mito",), "set valid")
        for name in valid.samples:
            assert np.array_equal(valid.sample(name).image, before.sample(name).image)
            assert np.array_equal(valid.sample(name).labels[0], before.sample(name).labels[0])
            assert valid.sample(name).attributes["source"] == name


@pytest.mark.parametrize("share", ["0.2", 0.2, " .2 "])
def test_a_fraction_of_one_is_not_taken_for_a_percentage(tmp_path: Path, share: str | float) -> None:
    file = make(tmp_path / "set.hdf5", tuple("abcde"))
    with pytest.raises(ParameterError, match=r"--valid \S+ is less than one percent: write 20% for"):
        split(file, valid=share)
    assert "train 99.5 %, valid 0.5 %" in split(file, valid="0.5%", dry_run=True).summary


def test_folds_with_a_gap_that_leaves_nothing_are_refused(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a",), (32, 4, 40))
    with pytest.raises(ParameterError, match="32 slices, too few for 3 parts with gaps of 16"):
        split(file, folds=3, by="z", gap=16)


def test_seeds_choose_differently_and_always_the_same(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", tuple("abcdefgh"), (2, 4, 40))
    chosen = [split(file, valid=25, seed=seed, dry_run=True).facts["contents"] for seed in (0, 0, 1, 2, 3, 4)]
    assert chosen[0] == chosen[1]
    assert len({str(found) for found in chosen}) > 1


def test_folds(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", tuple("abcde"))
    split(file, folds=5)
    found = contents(tmp_path / "parts")
    assert len(found) == 10
    assert sorted(found[f"fold_{number}_valid.hdf5"][0] for number in range(1, 6)) == list("abcde")
    for number in range(1, 6):
        train, valid = (found[f"fold_{number}_{side}.hdf5"] for side in ("train", "valid"))
        assert sorted([*train, *valid]) == list("abcde")


def crop(file: Path, sample: str, z: tuple[int, int], name: str) -> None:
    do("crop-sample", {"file": file, "sample": sample, "z": z, "name": name})


def test_crops_of_one_volume_stay_together(tmp_path: Path) -> None:
    """Those that overlap, touch or lie near, whatever was renamed and whether the volume itself is there."""
    file = make(tmp_path / "set.hdf5", ("a", "b", "c"), (80, 20, 50))
    crop(file, "a", (0, 20), "a top")
    crop(file, "a", (20, 40), "a next")
    crop(file, "a", (45, 50), "a near")
    crop(file, "a", (70, 80), "a far")
    do("remove-sample", {"file": file, "sample": "a"})
    crop(file, "b", (5, 30), "b part")
    do("rename-sample", {"file": file, "sample": "b", "new": "d"})
    result = split(file, valid=30, gap=5, dry_run=True)
    assert sorted(map(sorted, result.facts["groups"])) == [
        ["a far"],
        ["a near", "a next", "a top"],
        ["b part", "d"],
        ["c"],
    ]
    with open_dataset(file) as dataset:
        samples = [dataset.sample(name) for name in ("a top", "a next", "a near", "a far")]
        assert neighbours(samples, 4, Stop()) == [[0, 1], [2], [3]]
        assert neighbours(samples, 0, Stop()) == [[0, 1], [2], [3]]
        assert neighbours(samples, 20, Stop()) == [[0, 1, 2, 3]]
    for seed in range(4):
        split(file, valid=30, test=20, gap=5, seed=seed, overwrite=True)
        paths = [tmp_path / "parts" / f"{side}.hdf5" for side in ("train", "valid", "test")]
        for one, other in combinations(paths, 2):
            check_apart(one, other)
        placed = {name: path for path, names in contents(tmp_path / "parts").items() for name in names}
        assert placed["a top"] == placed["a next"] == placed["a near"]
        assert placed["d"] == placed["b part"]


def test_crops_that_deepscem_made_stay_together(tmp_path: Path) -> None:
    """It notes nothing but the box, in the name; of one that does not fit, somebody else has chosen the name."""
    names = ("vol_crop_0_12_0_40_0_70", "vol_crop_12_24_0_40_0_70", "vol_crop_50_62_0_40_0_70")
    wrong = ("vol_crop_12_20_0_40_0_70", "vol_crop_0_24_0_40_0_70_crop_12_24_0_40_0_70")
    file = make(tmp_path / "set.hdf5", (*names, *wrong))
    crop(file, names[1], (2, 12), "ours")
    do("rename-sample", {"file": file, "sample": names[1], "new": "later"})
    found = split(file, valid=30, gap=5, dry_run=True).facts["groups"]
    assert sorted(map(sorted, found)) == sorted(
        map(sorted, [[names[0], "later", "ours", wrong[1]], [names[2]], [wrong[0]]])
    )


def test_crops_before_and_after_a_change_of_name_stay_together(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("cell", "other", "third"), (30, 20, 50))
    crop(file, "cell", (0, 10), "top")
    do("rename-sample", {"file": file, "sample": "cell", "new": "cell2"})
    crop(file, "cell2", (10, 20), "next")
    do("remove-sample", {"file": file, "sample": "cell2"})
    found = split(file, valid=30, gap=5, dry_run=True).facts["groups"]
    assert sorted(map(sorted, found)) == [["next", "top"], ["other"], ["third"]]


def test_slices_that_may_be_of_one_volume_are_told(tmp_path: Path) -> None:
    heard = Heard()
    file = make(tmp_path / "set.hdf5", tuple(f"s{number:03}" for number in range(4)), (1, 40, 70))
    split(file, valid=30, report=heard, dry_run=True)
    (warning,) = heard.warnings
    assert warning.startswith("Single slices such as 's000' and 's001' may be neighbours in one volume")
    for names, shape in ((("s1", "s100", "t2"), (1, 40, 70)), (("s1", "s2"), SHAPE)):
        apart = make(tmp_path / f"{len(names)}.hdf5", names, shape)
        heard = Heard()
        split(apart, valid=30, report=heard, dry_run=True)
        assert not heard.warnings


def test_one_volume_is_cut_along_z_with_a_gap(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("only",), (40, 8, 40))
    with pytest.raises(ParameterError, match=r"has one volume.*--by z, which leaves 16 slices"):
        split(file, valid=20)
    split(file, valid=25, by="z", gap=4)
    with (
        open_dataset(tmp_path / "parts" / "train.hdf5") as train,
        open_dataset(tmp_path / "parts" / "valid.hdf5") as valid,
    ):
        ((_, one),), ((_, other),) = (list(found.samples.items()) for found in (train, valid))
        assert (one.shape[0], other.shape[0]) == (27, 9)
        ends = sorted(sample.attributes["origin_box"][:2] for sample in (one, other))
        assert (ends[0][0], ends[1][0] - ends[0][1], ends[1][1]) == (0, 4, 40)
        with open_dataset(file) as whole:
            z0, z1 = one.attributes["origin_box"][:2]
            assert np.array_equal(one.image, whole.sample("only").image[z0:z1])
    check_apart(tmp_path / "parts" / "train.hdf5", tmp_path / "parts" / "valid.hdf5")


def test_every_part_has_its_share_of_the_labelled_slices(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("only",), (40, 8, 40))
    do("set-labelled", {"file": file, "sample": "only", "labelled_z": "4:5,6:7,8:9,11:12"})

    def labelled(path: Path) -> int:
        """Slices, whose places are those of the data set that was divided."""
        total = 0
        with open_dataset(path) as part:
            for sample in part.samples.values():
                ignored = ignored_in(sample)
                assert ignored is not None
                total += len(ignored.annotated_slices)
        return total

    for seed in range(3):
        split(file, valid=25, by="z", gap=1, seed=seed, overwrite=True)
        assert [labelled(tmp_path / "parts" / f"{side}.hdf5") for side in ("train", "valid")] == [3, 1]
    check_apart(tmp_path / "parts" / "train.hdf5", tmp_path / "parts" / "valid.hdf5")
    split(file, folds=2, by="z", gap=2, out_dir=tmp_path / "folds")
    assert [labelled(path) for path in sorted((tmp_path / "folds").glob("*valid.hdf5"))] == [2, 2]
    assert [labelled(path) for path in sorted((tmp_path / "folds").glob("*train.hdf5"))] == [1, 1]
    with pytest.raises(ParameterError, match="40 slices, 4 of them labelled, too few for 2 parts with gaps of 8"):
        split(file, valid=25, by="z", gap=8, overwrite=True)
    do("set-labelled", {"file": file, "sample": "only", "labelled_z": "4:5"})
    with pytest.raises(ParameterError, match="1 of them labelled, too few for 2 parts"):
        split(file, valid=25, by="z", gap=1, overwrite=True)


def test_folds_along_z(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a", "b"), (20, 8, 40))
    result = split(file, folds=4, by="z", gap=2)
    assert result.facts["contents"]["fold_2_valid.hdf5"] == ["a_crop_5_10_0_8_0_40", "b_crop_5_10_0_8_0_40"]
    assert result.facts["contents"]["fold_2_train.hdf5"] == [
        f"{name}_crop_{z}_0_8_0_40" for name in "ab" for z in ("0_3", "12_20")
    ]
    for number in range(1, 5):
        check_apart(*(tmp_path / "parts" / f"fold_{number}_{side}.hdf5" for side in ("train", "valid")))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "give either --folds"),
        ({"folds": 2, "valid": 20}, "give either --folds"),
        ({"folds": 2, "test": 20}, "belongs with --valid"),
        ({"valid": 60, "test": 40}, "something to train on"),
        ({"valid": "many"}, "must be a number"),
        ({"folds": 4}, "3 volumes that have nothing to do with each other.*into 4 parts"),
        ({"folds": 3, "by": "z", "gap": 8}, "has 12 slices, too few for 3 parts with gaps of 8"),
        ({"valid": 5, "by": "z", "gap": 11}, "has 12 slices, too few for 2 parts"),
    ],
)
def test_refusals(values: dict[str, Any], what: str, tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a", "b", "c"))
    with pytest.raises(ParameterError, match=what):
        split(file, **values)
    assert [path.name for path in tmp_path.iterdir()] == ["set.hdf5"]


@pytest.mark.parametrize("by", ["samples", "z"])
@pytest.mark.parametrize("through", ["name", "link"])
def test_a_part_never_replaces_what_is_divided(by: str, through: str, tmp_path: Path) -> None:
    file = make(tmp_path / ("train.hdf5" if through == "name" else "set.hdf5"), ("a", "b", "c"))
    if through == "link":
        (tmp_path / "valid.hdf5").symlink_to(file)
    before = file.read_bytes()
    with pytest.raises(ParameterError, match=r"would replace the data set that is divided.*another folder"):
        split(file, out_dir=tmp_path, valid=34, by=by, gap=1, overwrite=True)
    assert file.read_bytes() == before


def test_samples_side_by_side_are_not_cut(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a", "b"), (40, 8, 40))
    crop(file, "a", (0, 30), "a part")
    with pytest.raises(ParameterError, match="'a', 'a part' share voxels or lie side by side"):
        split(file, valid=20, by="z", gap=2)


def test_without_samples(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no samples"):
        split(make(tmp_path / "set.hdf5", ()), valid=20)


def test_nothing_is_replaced_or_left_half(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a", "b", "c"))

    class Stops(Heard):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if task.startswith("Dividing") and done > 0.8 * total:
                stop.request("enough")

    stop = Stop()
    with pytest.raises(Stopped):
        split(file, stop, Stops(), valid=30)
    with pytest.raises(Stopped):
        split(file, stopped(), valid=30)
    assert list((tmp_path / "parts").iterdir()) == []
    split(file, valid=30)
    with pytest.raises(ParameterError, match="exists already"):
        split(file, valid=30)
    split(file, valid=30, overwrite=True)


@pytest.mark.parametrize("masked", [False, True])
def test_a_stopped_run_leaves_the_parts_of_the_one_before(masked: bool, tmp_path: Path) -> None:
    """All of them: a new part beside an old one may know its voxels."""
    file, stop = make(tmp_path / "set.hdf5", ("a", "b", "c")), Stop()
    if masked:
        np.save(tmp_path / "mask.npy", np.random.default_rng(0).random(SHAPE) < 0.5)
        for name in "abc":
            do("set-labelled", {"file": file, "sample": name, "ignore_mask": tmp_path / "mask.npy"})
    split(file, valid=30)

    def parts() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir() if ".ignore" not in path.name}

    before, listed = parts(), sorted((tmp_path / "parts").iterdir())

    class Stops(Heard):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if task.startswith("Dividing") and done > 0.8 * total:
                stop.request("enough")

    with pytest.raises(Stopped):
        split(file, stop, Stops(), valid=60, overwrite=True)
    assert parts() == before
    assert sorted((tmp_path / "parts").iterdir()) == listed
    for side in ("train", "valid"):
        with open_dataset(tmp_path / "parts" / f"{side}.hdf5") as part:
            for sample in part.samples.values():
                if masked:
                    ignored = ignored_in(sample)
                    assert ignored is not None
                    assert np.array_equal(ignored[:], np.load(tmp_path / "mask.npy"))


def test_parts_have_their_shares_of_every_label() -> None:
    """A rare label that few groups have is shared out, too."""
    weights = np.ones((12, 2))
    weights[:, 1] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 5]
    for seed in range(5):
        chosen = balanced(weights, [1 / 3] * 3, seed)
        assert [chosen.count(side) for side in range(3)] == [4, 4, 4]
        assert sorted(chosen[9:]) == [0, 1, 2]
    assert set(balanced(np.array([[100.0], [1.0], [1.0]]), [0.9, 0.05, 0.05], 0)) == {0, 1, 2}


def test_what_is_not_labelled_stays_so(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", ("a", "b"))
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    np.save(tmp_path / "mask.npy", mask)
    do("set-labelled", {"file": file, "sample": "a", "ignore_mask": tmp_path / "mask.npy"})
    for by in ("samples", "z"):
        split(file, valid=50, by=by, gap=1, overwrite=True)
        found = {}
        for side in ("train", "valid"):
            with open_dataset(tmp_path / "parts" / f"{side}.hdf5") as part:
                for name, sample in part.samples.items():
                    ignored = ignored_in(sample)
                    assert (ignored is None) == name.startswith("b")
                    if ignored is not None:
                        z0, z1 = sample.attributes["origin_box"][:2]
                        assert np.array_equal(ignored[:], mask[z0:z1])
                        found[z0, z1] = side
        assert len(found) == (1 if by == "samples" else 2)

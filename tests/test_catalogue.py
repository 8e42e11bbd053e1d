"""What a folder holds: listed whatever is in it."""

from pathlib import Path

import pytest
from screens import dated, make_dataset, make_model

from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.catalogue import Cataloguer
from deepscem_tui.engine.datasets.samples import Member
from deepscem_tui.screens.proposals import still_there


def test_damage_that_only_hdf5_knows_of_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """h5py raises RuntimeError for some bytes that cannot be."""

    def broken(_: Member) -> int:
        raise RuntimeError("Unable to get storage size (bad B-tree)")

    make_dataset(tmp_path / "a.hdf5")
    monkeypatch.setattr(Member, "stored_bytes", property(broken))
    (entry,) = Cataloguer().scan(tmp_path).datasets
    assert "bad B-tree" in entry.problem


def test_a_model_opened_as_a_data_set_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    make_model(tmp_path / "net.keras")
    found = Cataloguer().scan(tmp_path / "here", [tmp_path / "net.keras"])
    (entry,) = found.elsewhere
    assert "is a model" in entry.problem


def test_a_data_set_opened_as_a_model_says_what_it_is(tmp_path: Path) -> None:
    make_dataset(tmp_path / "a.hdf5")
    (tmp_path / "here").mkdir()
    dated(make_dataset(tmp_path / "here" / "b.hdf5"))  # known as a data set of the folder
    (tmp_path / "text.keras").write_text("no model")
    make_model(tmp_path / "here" / "net.keras")
    names = ("here/net.keras", "a.hdf5", "here/b.hdf5", "text.keras", "gone.keras")
    found = Cataloguer().scan(tmp_path / "here", models=[tmp_path / name for name in names]).models
    assert [entry.path.name for entry in found] == ["net.keras", "a.hdf5", "b.hdf5", "text.keras", "gone.keras"]
    assert found[0].info is not None
    assert all(entry.problem for entry in found[1:])
    assert {entry.problem for entry in found[1:3]} == {"is a data set, not a model: it describes no network"}
    assert found[4].problem == "is not there any more"


def test_what_is_new_is_read_however_little_time_there_is(tmp_path: Path) -> None:
    for name in "abc":
        make_dataset(tmp_path / f"{name}.hdf5")
    cataloguer = Cataloguer()
    unread = [cataloguer.scan(tmp_path, seconds=0).unread for _ in range(4)]
    assert unread == sorted(unread, reverse=True)
    assert unread[-1] < 3


def test_images_are_files_and_stores_of_every_format_but_pictures(tmp_path: Path) -> None:
    for name in ("a.tif", "b.mrc", "c.NII.gz", "d.h5", "e.png", "f.jpg", "g.txt"):
        (tmp_path / name).write_bytes(b"something")
    (tmp_path / "s.ome.zarr").mkdir()
    (tmp_path / "s.ome.zarr" / "inner.tif").touch()
    assert [path.name for path in Cataloguer().scan(tmp_path).images] == ["a.tif", "b.mrc", "c.NII.gz", "s.ome.zarr"]


@pytest.mark.parametrize("model", [["a"], 3, {"a": 1}, True, ""])
def test_values_of_another_kind_are_not_remembered(model: object) -> None:
    assert not still_there(ACTIONS["train"], {"model": model})


def test_samples_of_a_file_that_is_gone_are_not_remembered(tmp_path: Path) -> None:
    here = str(make_dataset(tmp_path / "here.hdf5"))
    last = {"sample": ["a"], "threshold": "0.4"}
    assert still_there(ACTIONS["predict"], {**last, "input": here}) == {**last, "input": here}
    assert still_there(ACTIONS["predict"], {**last, "input": "gone.hdf5"}) == {"threshold": "0.4"}

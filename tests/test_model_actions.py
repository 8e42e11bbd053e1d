"""The actions create-model and convert-model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, ModelError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.models.actions import convert_model, create_model
from deepscem_tui.engine.models.files import load_model, read_info

TINY: dict[str, Any] = {"filters": 2, "depth": 2}


def create(out: Path, **changes: Any) -> dict[str, Any]:
    asked = TINY | ({} if "like" in changes else {"labels": 1}) | changes
    return dict(create_model(p.CreateModel(out=out, **asked), Context()).facts)


def dataset(path: Path, n_labels: int, aliases: list[str] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["name"] = "cells"
        file.attrs["labels"] = n_labels
        if aliases:
            file.attrs["labels_aliases"] = aliases
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
def test_create(architecture: str, dimension: int, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"m{suffix}"
    facts = create(out, architecture=architecture, dimension=dimension, labels=2, activation="softmax")
    model, info = load_model(out)
    radius = {"u-net": 9, "fcn": 8}[architecture]
    assert model.output_shape[-1] == 3
    assert facts == {
        "model": str(out),
        "dimension": dimension,
        "labels": ["label_0000", "label_0001"],
        "background": True,
        "activation": "softmax",
        "parameters": model.count_params(),
        "receptive_radius": [radius if dimension == 3 else 0, radius, radius],
        "divisor": [2 if dimension == 3 else 1, 2, 2],
        "sees_all": False,
        "bytes": out.stat().st_size,
    }
    assert info.settings is not None
    assert info.settings["architecture"] == architecture
    assert info.training is None
    assert not info.named


def test_labels_and_their_names_come_from_a_data_set(tmp_path: Path) -> None:
    like = dataset(tmp_path / "d.hdf5", 2, ["mito", "ER"])
    assert create(tmp_path / "m.keras", like=like)["labels"] == ["mito", "ER"]
    assert read_info(tmp_path / "m.keras").named
    like = dataset(tmp_path / "e.hdf5", 3)
    assert len(create(tmp_path / "n.keras", like=like)["labels"]) == 3
    assert not read_info(tmp_path / "n.keras").named


def test_what_a_model_cannot_be_made_like(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no labels"):
        create(tmp_path / "m.keras", like=dataset(tmp_path / "none.hdf5", 0))
    with pytest.raises(DataError, match=r"missing\.hdf5"):
        create(tmp_path / "m.keras", like=tmp_path / "missing.hdf5")
    assert not (tmp_path / "m.keras").exists()


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        create(tmp_path / f"{name}.keras", seed=seed)
    a, b, c = (load_model(tmp_path / f"{name}.keras")[0].get_weights() for name in "abc")
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(a, c, strict=True))


@pytest.mark.parametrize("name", ["m", "m.hdf5", "m.tif"])
def test_the_name_must_be_that_of_a_model(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"\.keras or \.h5"):
        create(tmp_path / name)
    create(tmp_path / "m.keras")
    with pytest.raises(ParameterError, match=r"\.keras or \.h5"):
        convert_model(p.ConvertModel(model=tmp_path / "m.keras", out=tmp_path / name), Context())


def test_a_network_that_no_memory_holds(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="--filters"):
        create(tmp_path / "m.keras", filters=512, depth=8, dimension=3)


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    facts = create(tmp_path / "m.keras", dry_run=True)
    assert facts["parameters"] > 0
    assert facts["bytes"] is None
    assert list(tmp_path.iterdir()) == []
    create(tmp_path / "m.keras")
    parameters = p.ConvertModel(model=tmp_path / "m.keras", out=tmp_path / "m.h5", dry_run=True)
    assert convert_model(parameters, Context()).facts["labels"] == ["label_0000"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]


def test_existing_files_are_replaced_only_when_asked(tmp_path: Path) -> None:
    create(tmp_path / "m.keras")
    with pytest.raises(ParameterError, match="--overwrite"):
        create(tmp_path / "m.keras")
    create(tmp_path / "m.keras", labels=3, overwrite=True)
    assert read_info(tmp_path / "m.keras").n_labels == 3


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    context = Context()
    context.stop.request("test")
    with pytest.raises(Stopped):
        create_model(p.CreateModel(out=tmp_path / "m.keras", labels=1, **TINY), context)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("before", "after"), [(".keras", ".h5"), (".h5", ".keras"), (".keras", ".keras")])
def test_convert(before: str, after: str, tmp_path: Path) -> None:
    source, out = tmp_path / f"a{before}", tmp_path / f"b{after}"
    create(source, like=dataset(tmp_path / "d.hdf5", 2, ["mito", "ER"]))
    result = convert_model(p.ConvertModel(model=source, out=out), Context())
    assert result.facts["bytes"] == out.stat().st_size
    (model, info), (again, same) = load_model(source), load_model(out)
    assert same == info
    image = np.random.default_rng(0).random((1, 8, 8, 1), dtype=np.float32)
    np.testing.assert_array_equal(again(image), model(image))


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model"):
        convert_model(p.ConvertModel(model=tmp_path / "none.h5", out=tmp_path / "m.keras"), Context())
    (tmp_path / "text.h5").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.h5"):
        convert_model(p.ConvertModel(model=tmp_path / "text.h5", out=tmp_path / "m.keras"), Context())
    create(tmp_path / "m.keras")
    with pytest.raises(ParameterError, match="the model itself"):
        convert_model(p.ConvertModel(model=tmp_path / "m.keras", out=tmp_path / "m.keras", overwrite=True), Context())

"""The action `plan`: what it sees in a data set, what it proposes for which machine, and that `train` takes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.action_commands import _from_file
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.datasets.survey import SampleFacts, Survey
from deepscem_tui.engine.errors import DatasetError, ParameterError, Stopped
from deepscem_tui.engine.networks import divisor
from deepscem_tui.engine.planning.plan import plan
from deepscem_tui.engine.planning.proposal import Machine, Proposal, propose
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import devices
from deepscem_tui.engine.system.memory import Limit

GIB = 2**30


def machine(gib: float = 40, gpu: bool = True) -> Machine:
    return Machine(Limit(int(gib * GIB), f"{gib} GiB", gpu), 8)


def sample(
    shape: tuple[int, int, int] = (100, 1000, 1000),
    voxels: tuple[float, float, float] | None = (8, 8, 8),
    fractions: tuple[float, ...] = (0.1, 0.05),
    grey: float = 0.5,
    name: str = "a",
) -> SampleFacts:
    return SampleFacts(name, shape, voxels, "nm", fractions, grey, 0.1)


def survey_of(*samples: SampleFacts) -> Survey:
    return Survey(samples, ("mito", "ER"))


def proposed(found: SampleFacts, on: Machine, dimension: int | None = None) -> Proposal:
    return propose(survey_of(found), on, dimension)


# ------------------------------------------------------------------------------------------------ the rules


@pytest.mark.parametrize(
    ("found", "on", "dimension", "because"),
    [
        (sample(), machine(), 3, "100 slices"),
        (sample(), machine(gpu=False), 2, "no GPU"),
        (sample((8, 1000, 1000)), machine(), 2, "8 slices"),
        (sample(voxels=(60, 4, 4)), machine(), 2, "15 times as thick"),
        (sample(voxels=(30, 6, 6)), machine(), 3, "5.0 times"),
        (sample(voxels=None), machine(), 3, "1.0 times"),
    ],
)
def test_slices_or_volumes(found: SampleFacts, on: Machine, dimension: int, because: str) -> None:
    made = proposed(found, on)
    assert made.dimension == dimension
    assert because in made.reasons["dimension"]
    assert proposed(found, on, 5 - dimension).dimension == 5 - dimension


@pytest.mark.parametrize(("thick", "levels"), [(8, 0), (20, 0), (24, 1), (32, 2), (56, 2)])
def test_thick_slices_are_left_apart_in_the_first_levels(thick: float, levels: int) -> None:
    made = proposed(sample((200, 1000, 1000), (thick, 8, 8)), machine())
    assert made.anisotropy >= levels
    assert (made.anisotropy == 0) == (levels == 0)
    assert made.patch[0] * thick <= 1.5 * 8 * made.patch[1]


def test_the_patch_is_as_large_as_the_memory_allows() -> None:
    made = [proposed(sample(), machine(gib)) for gib in (2, 6, 40)]
    voxels = [np.prod(proposal.patch) for proposal in made]
    assert voxels[0] < voxels[1] < voxels[2]
    assert "memory allows" in made[0].reasons["patch_size"]
    assert made[0].batch_size == 2
    assert made[2].batch_size > 2
    assert all(proposal.memory <= 0.8 * gib * GIB for proposal, gib in zip(made, (2, 6, 40), strict=True))


def test_filters_give_way_where_not_even_two_small_patches_fit() -> None:
    made = proposed(sample(), machine(0.02, gpu=False), 3)
    assert made.filters < 16
    assert made.reasons["filters"] == "more do not fit the memory"


def test_the_training_is_longer_the_more_there_is_to_see_and_has_limits() -> None:
    sizes = [(4, 400, 400), (100, 1000, 1000), (500, 4000, 4000)]
    epochs = [proposed(sample(size), machine(), 2).epochs for size in sizes]
    assert epochs == sorted(epochs)
    assert epochs[0] == 16
    assert epochs[-1] == 64


def test_a_rare_label_gets_more_attention() -> None:
    made = proposed(sample(fractions=(0.2, 0.004)), machine())
    assert made.label_focus == 50
    assert "'ER' has 0.40%" in made.reasons["label_focus"]
    assert proposed(sample(), machine()).label_focus == 33


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 300), st.integers(4, 3000), st.integers(4, 3000)),
    st.floats(0.5, 20),
    st.floats(0.05, 80),
    st.booleans(),
    st.sampled_from([None, 2, 3]),
)
def test_train_takes_whatever_is_proposed(
    shape: tuple[int, int, int], ratio: float, gib: float, gpu: bool, dimension: int | None
) -> None:
    on = machine(gib, gpu)
    made = proposed(sample(shape, (8 * ratio, 8, 8)), on, dimension)
    assert all(side <= most for side, most in zip(made.patch, shape, strict=True))
    assert all(side % step == 0 for side, step in zip(made.patch, divisor(made.graph), strict=True))
    assert made.batch_size >= 2
    assert made.memory <= on.budget or made.filters <= 4
    assert made.network(Path("a.keras"), Path("d.hdf5")).depth == made.depth
    assert set(made.reasons) >= {"dimension", "depth", "filters", "patch_size", "batch_size", "epochs"}


# ------------------------------------------------------------------------------------------------ what is unusual


def test_a_usual_data_set_raises_no_warning() -> None:
    assert survey_of(sample(), sample(name="b", grey=0.55)).warnings == []


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([sample(fractions=(0.1, 0.0))], "'ER' is blank in all"),
        ([sample(fractions=(0.1, 0.0005))], "'ER' is nearly empty, 0.05%"),
        ([sample(), sample(fractions=(0.1, 0.0), name="b")], "'ER' is blank in sample 'b'"),
        ([sample(), sample(voxels=(8, 4, 4), name="b")], "Voxel sizes differ"),
        ([sample(voxels=None)], "No voxel size is known"),
        ([sample(), sample(name="b"), sample(grey=0.9, name="c")], "'c' has other grey values"),
        ([sample((2, 500, 500))], "2 labelled slices in all"),
    ],
)
def test_what_is_unusual_is_said(samples: list[SampleFacts], words: str) -> None:
    (text,) = survey_of(*samples).warnings
    assert words in text


# ------------------------------------------------------------------------------------------------ the action


class Listener(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two samples, the second with other grey values; of its second label there is next to nothing."""
    path, shape = tmp_path / "cells.hdf5", (20, 64, 48)
    random = np.random.default_rng(0)
    with new_dataset(path, "cells", 2) as made:
        for name, grey in (("a", 0.2), ("b", 0.9)):
            members = {"image": np.float32, "label_0000": np.uint8, "label_0001": np.uint8}
            sample = made.add_sample(name, shape, members, {"voxel_size": (40.0, 8.0, 8.0), "voxel_unit": "nm"})
            labels = np.zeros((2, *shape), np.uint8)
            labels[0, :, :16] = 1
            labels[1, :, 0, :2] = 1
            sample["image"][0:20] = (grey + 0.01 * random.random(shape)).astype(np.float32)
            for index, label in enumerate(labels):
                sample[f"label_{index:04}"][0:20] = label
    return path


def do(dataset: Path, context: Context | None = None, **more: Any) -> Any:
    return plan(p.Plan(**{"dataset": dataset, "measure": False, **more}), context or Context())


def test_tensorflow_is_said_to_be_loaded_only_where_it_is(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = devices.tensorflow()

    class Heard(Listener):
        def message(self, text: str) -> None:
            super().message(text)
            monkeypatch.setitem(sys.modules, "tensorflow", real)

    def measured(*_: object) -> float:
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
        devices.tensorflow.__wrapped__()  # what a process does once
        return 1.0

    monkeypatch.setattr("deepscem_tui.engine.planning.plan.seconds_a_step", measured)
    for measure, loading in ((False, False), (True, True)):
        heard = Heard()
        runs.perform(ACTIONS["plan"], p.Plan(dataset=dataset, measure=measure), heard, Stop())
        assert ("Loading TensorFlow" in heard.messages) == loading


def test_the_data_set_is_looked_at(dataset: Path) -> None:
    heard = Listener()
    result = do(dataset, Context(heard))
    (first, second), names = result.tables[0].as_dicts(), result.tables[0].columns
    assert names[-1] == "share of label_0001"
    assert (first["shape"], first["voxel_size"]) == ([20, 64, 48], [40, 8, 8])
    assert first["share of label_0000"] == 0.25
    assert second["grey"] > first["grey"]
    assert any("nearly empty" in text for text in heard.warnings)
    assert any("other grey values" in text for text in heard.warnings)
    assert result.facts["warnings"] == heard.warnings


def test_train_takes_the_file_and_the_command_makes_its_network(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.toml"
    result = do(dataset, out=out, valid=dataset, dimension=3)
    text = out.read_text()
    assert result.facts["create_model"] in text
    assert result.summary.endswith(f"deepscem-tui run train --from {out}")
    create, train = ACTIONS["create-model"], ACTIONS["train"]
    network = result.facts["network"]
    assert network["anisotropy"] == 2
    model = tmp_path / "cells-new.keras"
    create.carry_out(build(create, {"out": model, "like": dataset, **network}), Context())
    values = _from_file(out, train)
    assert values == result.facts["training"]
    assert values["valid"] == str(dataset)
    planned = train.carry_out(build(train, {**values, "dry_run": True}), Context())
    assert planned.facts["batch_size"] == values["batch_size"]
    assert ",".join(map(str, planned.facts["patch_size"])) == values["patch_size"]


def test_the_time_is_measured_where_it_may_be(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.planning.plan._LEAST_SECONDS", 0.01)
    assert do(dataset).facts["seconds"] is None
    assert do(dataset, measure=True, dry_run=True).facts["seconds"] is None
    measured = do(dataset, measure=True)
    assert measured.facts["seconds"] > 0
    assert "as a step was measured" in measured.summary


def test_nothing_is_written_that_should_not_be(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.toml"
    assert "Would write" in do(dataset, out=out, dry_run=True).summary
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(ParameterError, match="--overwrite"):
        do(dataset, out=out)
    with pytest.raises(ParameterError, match=r"\.toml"):
        do(dataset, out=tmp_path / "plan.txt")
    assert out.read_text() == "mine"
    do(dataset, out=out, overwrite=True)
    assert "patch_size" in out.read_text()


def test_what_cannot_be_planned_for(dataset: Path, tmp_path: Path) -> None:
    with new_dataset(tmp_path / "empty.hdf5", "empty", 1):
        pass
    with pytest.raises(DatasetError, match="no samples"):
        do(tmp_path / "empty.hdf5")
    with new_dataset(tmp_path / "none.hdf5", "none", 0) as made:
        made.add_sample("a", (1, 8, 8), {"image": np.float32})
    with pytest.raises(DatasetError, match="no labels"):
        do(tmp_path / "none.hdf5")
    context = Context()
    context.stop.request("test")
    with pytest.raises(Stopped):
        do(dataset, context)

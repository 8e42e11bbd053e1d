"""What files of others cannot do: run code, reach other files, take memory without end; and that nothing is sent."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bad_input
import h5py
import numpy as np
import pytest

from deepscem_tui.cli import main
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.models.files import load_model, read_info
from deepscem_tui.engine.words import file_name
from deepscem_tui.jobs import start_detached


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return bad_input.make_kit(folder, lambda *words: main([*words, "--quiet"]))


@pytest.fixture(params=["model.keras", "model.h5"])
def model(request: pytest.FixtureRequest, kit: Path, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes((kit / request.param).read_bytes())
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path: Path, content: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def with_weights(path: Path, change: Callable[[h5py.File], Any]) -> None:
    """Change the weights in a model file."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            change(file)
        return
    content = members(path)
    weights = io.BytesIO(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    archived(path, content | {"model.weights.h5": weights.getvalue()})


def a_kernel(file: h5py.File) -> str:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if getattr(item, "ndim", 0) == 4 else None)
    return found[0]


# ------------------------------------------------------------------------------------------------------ checksums


def test_weights_that_are_not_those_that_were_saved(model: Path) -> None:
    def spoil(file: h5py.File) -> None:
        file[a_kernel(file)][0, 0, 0, 0] += 0.125

    load_model(model)
    with_weights(model, spoil)
    assert read_info(model).n_labels == 1
    with pytest.raises(ModelError, match=f"{model}.*checksum"):
        load_model(model)


def test_a_model_without_a_checksum_is_taken(model: Path) -> None:
    if model.suffix == ".h5":
        with h5py.File(model, "r+") as file:
            about = json.loads(file.attrs["deepscem_tui"])
            assert about.pop("weights_sha256")
            file.attrs["deepscem_tui"] = json.dumps(about)
    else:
        content = members(model)
        about = json.loads(content["deepscem_tui.json"])
        assert about.pop("weights_sha256")
        archived(model, content | {"deepscem_tui.json": json.dumps(about).encode()})
    load_model(model)


def test_the_checksum_is_the_same_in_either_format(kit: Path) -> None:
    with h5py.File(kit / "model.h5") as file:
        noted = json.loads(file.attrs["deepscem_tui"])["weights_sha256"]
    assert noted == json.loads(members(kit / "model.keras")["deepscem_tui.json"])["weights_sha256"]


# ----------------------------------------------------------------------------------------------- code in models


def gadget(module: str, name: str, **arguments: Any) -> dict[str, Any]:
    """A layer that makes Keras call a function while it reads the description (CVE-2025-1550, CVE-2025-8747)."""
    function = {"module": module, "class_name": "function", "config": name, "registered_name": "function"}
    return {
        "module": "keras.layers", "class_name": "Lambda", "registered_name": None, "name": "gadget",
        "config": {"name": "gadget", "function": function, "arguments": arguments}, "inbound_nodes": [],
    }  # fmt: skip


GADGETS = {
    "a function of any module": gadget("os", "system"),
    "a download": gadget("keras.utils", "get_file", origin="http://127.0.0.1/x"),
    "safe mode switched off (CVE-2025-9906)": gadget("keras.config", "enable_unsafe_deserialization"),
    "a byte code (CVE-2024-3660)": {
        "class_name": "Lambda", "name": "gadget",
        "config": {"name": "gadget", "function": {"class_name": "__lambda__", "config": {"code": "4wAA"}}},
    },
    "a model in the model": {
        "module": "keras.layers", "class_name": "TFSMLayer", "name": "gadget", "config": {"filepath": "x"},
    },
    "a file that is read (CVE-2025-12058)": {
        "module": "keras.layers", "class_name": "StringLookup", "name": "gadget", "config": {"vocabulary": "/etc/x"},
    },
    "a class of somebody": {"module": "evil", "class_name": "Conv2D", "name": "gadget", "config": {}},
    "a registered class": {"registered_name": "evil>Conv2D", "class_name": "Conv2D", "name": "gadget", "config": {}},
}  # fmt: skip


@pytest.mark.parametrize("name", GADGETS)
def test_no_layer_of_a_description_makes_anything_happen(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them what Keras' safe mode let through, in .h5 files too, where it does not look (CVE-2025-9905)."""
    import keras

    monkeypatch.setattr(keras.saving, "load_model", None)  # no description ever reaches Keras
    monkeypatch.setattr(keras.layers, "deserialize", None)
    bad_input.described(lambda about: about["config"]["layers"].append(GADGETS[name]))(model, model)
    for read in (read_info, load_model):
        with pytest.raises(ModelError, match=r"gadget.*cannot be used"):
            read(model)


@pytest.mark.parametrize("key", ["kernel_initializer", "kernel_regularizer", "kernel_constraint", "dtype"])
def test_no_setting_of_a_layer_makes_anything_happen(key: str, model: Path, tmp_path: Path) -> None:
    """What is not known as harmless is not looked at."""
    config = {"command": f"touch {tmp_path}/hacked"}
    code = {"module": "os", "class_name": "system", "config": config, "registered_name": None}
    bad_input.layered("Conv2D", **{key: code})(model, model)
    load_model(model)
    assert not (tmp_path / "hacked").exists()


# -------------------------------------------------------------------------------------------------- archives


def test_an_archive_with_members_that_lead_elsewhere_writes_nothing(kit: Path, tmp_path: Path) -> None:
    path = tmp_path / "inner" / "model.keras"
    path.parent.mkdir()
    more = {"../escaped": b"x", "/tmp/escaped-from-a-model": b"x", "a/../../escaped": b"x"}
    archived(path, members(kit / "model.keras") | more)
    load_model(path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["inner", "model.keras"]
    assert not Path("/tmp/escaped-from-a-model").exists()


def test_a_member_that_is_a_link_is_not_followed(kit: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "model.keras", members(kit / "model.keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", content["config.json"])
        link = zipfile.ZipInfo("model.weights.h5")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(kit / "model.h5"))
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_only_what_keras_uses_is_unpacked(kit: Path, tmp_path: Path, method: int) -> None:
    archived(tmp_path / "m.keras", members(kit / "model.keras"), compression=method)
    with pytest.raises(ModelError, match="compressed in a way"):
        read_info(tmp_path / "m.keras")


def test_weights_that_expand_without_end(kit: Path, tmp_path: Path) -> None:
    content = members(kit / "model.keras") | {"model.weights.h5": bytes(100 << 20)}
    archived(tmp_path / "m.keras", content, compression=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "m.keras").stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="expand"):
        load_model(tmp_path / "m.keras")


# -------------------------------------------------------------------------------------------------- HDF5, arrays


def test_weights_that_lead_round_in_circles(model: Path) -> None:
    def change(file: h5py.File) -> None:
        for number in range(12):
            file[f"round{number}"] = file["/"]

    with_weights(model, change)
    with pytest.raises(ModelError, match=r"circles|nested"):
        load_model(model)


def test_weights_that_need_a_filter(model: Path) -> None:
    def change(file: h5py.File) -> None:
        name = a_kernel(file)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "f4", chunks=shape, compression=32001, allow_unknown_filter=True)

    with_weights(model, change)
    with pytest.raises(ModelError, match="not supported"):
        load_model(model)


def test_an_attribute_that_claims_all_memory(kit: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    path.write_bytes((kit / "data.hdf5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["marked"] = np.arange(77, dtype=np.uint8)
    content = path.read_bytes()
    sizes = struct.pack("<Q", 77)  # of the attribute's only axis
    path.write_bytes(content.replace(sizes, struct.pack("<Q", 1 << 41)))
    assert content.count(sizes) >= 1
    assert main(["run", "info", str(path)]) in (0, 3)


def test_parts_of_others_are_read_without_pickles(tmp_path: Path) -> None:
    """Objects in a NumPy file would be made by calling whatever it names."""
    touched = tmp_path / "hacked"

    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (touched,)

    array = np.empty(1, object)
    array[0] = Harm()
    for name in ("0.npy", "00000.npy"):
        np.save(tmp_path / name, array, allow_pickle=True)
        with pytest.raises(ValueError, match="pickle"):
            np.load(tmp_path / name, allow_pickle=False)
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(sys.modules["deepscem_tui"].__file__).parent.rglob("*.py")
    )
    loads = [line for line in source.splitlines() if "np.load(" in line]
    assert loads
    assert all("allow_pickle=False" in line for line in loads)
    assert "import pickle" not in source
    assert not touched.exists()


@pytest.mark.parametrize("name", [*bad_input.NAMES.values(), "a\\b", "C:\\x", "....", "x" * 500, "\0"])
def test_a_name_becomes_one_part_of_a_path(name: str, tmp_path: Path) -> None:
    part = file_name(name)
    assert part
    assert (tmp_path / part).resolve().parent == tmp_path.resolve()
    assert not part.startswith((".", "-"))
    (tmp_path / part).touch()


# ------------------------------------------------------------------------------------------------------ surroundings


@pytest.mark.parametrize("module", ["numpy", "deepscem_tui", "json"])
def test_a_detached_job_takes_no_module_from_the_folder_of_the_data(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text("import pathlib; pathlib.Path('hacked').touch()")
    monkeypatch.chdir(tmp_path)
    detached = start_detached(["--version"], tmp_path / "runs")
    assert detached.process.wait(60) == 0, detached.output.read_text()
    assert not (tmp_path / "hacked").exists()


FORBIDDEN = """
import socket, sys
def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname",):
        if event == "socket.__new__" and arguments[1] == getattr(socket, "AF_UNIX", None):
            return  # within this machine
        print("NETWORK", event, arguments, file=sys.stderr)
        raise PermissionError(event)
sys.addaudithook(hook)
from deepscem_tui.cli import main
for line in sys.argv[1:]:
    assert main(line.split()) == 0, line
"""


def test_nothing_is_sent_or_fetched(kit: Path, tmp_path: Path) -> None:
    """The whole job with every socket forbidden, in a process of its own that imports TensorFlow anew."""
    lines = [
        "run create-dataset d.hdf5 d 1", "run add-sample d.hdf5 s image.tif mask.tif", "run check-dataset d.hdf5",
        "run create-model m.keras --like d.hdf5 --depth 2 --filters 2",
        "run train m.keras t.keras --train d.hdf5 --valid d.hdf5 --epochs 1 --steps-per-epoch 1 --validation-steps 1 "
        "--batch-size 1 --patch-size 16,16",
        "run predict t.keras d.hdf5 p.hdf5", "run evaluate d.hdf5 p.hdf5", "run info t.keras", "runs list",
        "run convert-model t.keras t.h5", "run export-model t.keras t.onnx",
        "run package-model t.keras t.zip --author A --cite A;10.1234/b --license MIT", "run export-sample p.hdf5 s out",
        "run convert-image image.tif i.mrc", "run convert-image i.mrc i.nii", "run convert-image i.nii i.h5:/raw",
        *(("run convert-image i.h5:/raw i.ome.zarr", "run info i.ome.zarr") if find_spec("zarr") else ()),
    ]  # fmt: skip
    for name in ("image.tif", "mask.tif"):
        (tmp_path / name).write_bytes((kit / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, *lines],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "NETWORK" not in done.stderr
    assert done.returncode == 0, done.stderr
    native = re.compile(r"^[IWEF]\d{4} |^WARNING: |tensorflow/|xla|cuda|CUDA|oneDNN|cpu_feature_guard")
    assert not [line for line in done.stderr.splitlines() if native.search(line)], "what libraries print is in the log"
    logs = [path.read_text("utf-8", "replace") for path in (tmp_path / "runs").glob("*-train-t/log.txt")]
    assert len(logs) == 1


def test_the_application_opens_no_socket_but_within_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[int] = []
    made = socket.socket.__init__

    def watch(self: socket.socket, family: int = -1, *rest: Any, **options: Any) -> None:
        opened.append(family)
        made(self, family, *rest, **options)

    monkeypatch.setattr(socket.socket, "__init__", watch)
    from screens import driven, make_dataset

    make_dataset(tmp_path / "d.hdf5")

    async def look(pilot: Any, app: Any) -> None:
        for key in ("f3", "f4", "f5", "f6", "f7"):
            await pilot.press(key)

    driven(look, tmp_path, "datasets")
    assert {int(family) for family in opened} <= {-1, int(getattr(socket, "AF_UNIX", -1))}

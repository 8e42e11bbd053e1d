"""What is said of the devices that are computed on, and of one that is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_planning import Listener

from deepscem_tui.cli import main
from deepscem_tui.engine.system import devices


def test_a_gpu_that_is_not_found_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if devices.gpu_names():
        pytest.skip("there is a GPU here that is found")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.gpu_not_found([tmp_path / "nothing", tmp_path])
    assert not devices.gpu_not_found([tmp_path / "nothing"])
    monkeypatch.setattr(devices, "gpu_not_found", lambda: True)
    heard = Listener()
    devices.say_device("CPU, 2 cores", "float32", heard)
    assert heard.messages == ["Computing in float32 on CPU, 2 cores"]
    assert "nvidia-smi" in heard.warnings[0]


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_a_gpu_that_is_hidden_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not devices.gpu_not_found([tmp_path])


@pytest.mark.parametrize(
    ("asked", "told"), [("auto", "GPU 0, GPU 1"), ("1", "GPU 1"), ("0,1", "GPU 0, GPU 1"), ("cpu", "CPU, ")]
)
def test_the_devices_that_are_asked_for_are_told(asked: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    details = SimpleNamespace(get_device_details=lambda gpu: {"device_name": gpu})
    config = SimpleNamespace(list_physical_devices=lambda _: ["GPU 0", "GPU 1"], experimental=details)
    monkeypatch.setattr(devices, "tensorflow", lambda: SimpleNamespace(config=config))
    assert devices.device_summary(asked).startswith(told)
    assert devices.device_summary(asked).count("GPU") == told.count("GPU")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("run create-model m.keras --labels 1 --dry-run", 0),
        ("run create-model m.keras", 2),
        ("run predict m.keras i.tif o.tif", 3),
        ("run train m.keras o.keras --train d.hdf5", 3),
    ],
)
def test_what_is_not_loaded_is_not_said_to_be(
    line: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert main(line.split()) == status
    assert "Loading" not in capfd.readouterr().err
    assert "tensorflow" not in sys.modules

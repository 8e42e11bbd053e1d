"""What tests share: golden texts, and settings that are not the user's."""

import socket
import time
from collections.abc import Iterator

import pytest
from golden_texts import Golden
from hypothesis import HealthCheck, settings

from deepscem_tui.engine.system.devices import available_cores

# Machines are as busy as they are: no test judges by time.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="Write the golden texts anew, to be looked at.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a program that they have started."""
    return available_cores() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no core waits for the other at the end."""
    items.sort(key=lambda item: not item.path.stem.endswith(("_tutorials", "_tmux")))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with tests/goldens/NAME.txt."""
    return Golden(bool(request.config.getoption("--update-goldens")))


@pytest.fixture(autouse=True)
def _settings_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's settings."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder / name))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The screens look at files and jobs more often than for a person."""
    for module, names in {
        "screens.runs": ("LOOK",), "screens.run_screen": ("LOOK",), "screens.models": ("LOOK",),
        "screens.compare_runs": ("LOOK",), "screens.datasets": ("RESCAN",), "screens.form_screen": ("POLL",),
        "screens.base": ("POLL",), "screens.jobs": ("POLL",), "widgets.run_view": ("POLL", "IDLE"),
    }.items():  # fmt: skip
        for name in names:
            monkeypatch.setattr(f"deepscem_tui.{module}._{name}_SECONDS", 0.2)


@pytest.fixture
def server_in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Texts that name the machine or the time of day are the same everywhere."""
    monkeypatch.setattr(socket, "gethostname", lambda: "server")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()

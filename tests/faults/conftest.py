"""What the tests of faults share: how many faults there are, and processes whose children are killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import make_template
from kills import TIMES, Driver


@pytest.fixture(scope="session")
def times() -> int:
    """By how much there are more faults than in CI."""
    return TIMES


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to copy, with a data set and the files of a sample to add."""
    folder = tmp_path_factory.mktemp("template")
    make_template(folder)
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Without TensorFlow."""
    made = Driver(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def tensorflow_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """With TensorFlow imported, and nothing computed yet."""
    made = Driver(tmp_path_factory.mktemp("home"), "tensorflow")
    yield made
    made.close()

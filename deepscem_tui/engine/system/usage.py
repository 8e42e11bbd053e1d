"""What a run takes of its machine: processor, memory and GPU.

A measurement that fails is left out: it must never end a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil

from deepscem_tui.engine.system.devices import available_cores, available_memory

_MOST_GPUS = 16


class Meter:
    """Measures this process since it was last asked; not to be shared between threads."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cores = available_cores()
        self._gpu_library: Any = None
        self._gpus: list[Any] | None = None  # None: not looked for yet
        with suppress(Exception):
            self._process.cpu_percent()  # the first call begins the count
            psutil.cpu_percent()

    def measure(self) -> dict[str, Any]:
        """The facts of a ``usage`` event, see :class:`deepscem_tui.engine.runs.watching.Usage`."""
        facts: dict[str, Any] = {"cores": self._cores}
        with suppress(Exception):
            facts["cpu"] = round(self._process.cpu_percent() / 100, 2)
            facts["machine_percent"] = psutil.cpu_percent()
        with suppress(Exception):
            facts["memory"] = int(self._process.memory_info().rss)
            facts["memory_available"] = available_memory()
        with suppress(Exception):
            gpus = list(self._measured_gpus())
            if gpus:
                facts["gpus"] = gpus
        return facts

    def _measured_gpus(self) -> Iterator[dict[str, Any]]:
        if self._gpus is None:
            self._gpus = []
            with suppress(Exception):  # no library, no driver, no device
                self._gpus = self._find_gpus()
        library = self._gpu_library
        for gpu in self._gpus:
            facts: dict[str, Any] = {}
            with suppress(Exception):
                name = library.nvmlDeviceGetName(gpu)
                facts["name"] = name.decode() if isinstance(name, bytes) else str(name)
            with suppress(Exception):  # a part of a device (MIG) does not tell it
                facts["percent"] = int(library.nvmlDeviceGetUtilizationRates(gpu).gpu)
            with suppress(Exception):
                memory = library.nvmlDeviceGetMemoryInfo(gpu)
                facts |= {"memory": int(memory.used), "memory_total": int(memory.total)}
            if facts:
                yield facts

    def _find_gpus(self) -> list[Any]:
        """Handles of the GPUs that this process may use."""
        pynvml = import_module("pynvml")
        pynvml.nvmlInit()
        self._gpu_library = pynvml
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(min(_MOST_GPUS, pynvml.nvmlDeviceGetCount()))]
        found = []
        for name in visible.split(",")[:_MOST_GPUS]:
            if not name.strip() or name.strip().startswith("-"):  # what follows is hidden
                break
            by_index = name.strip().isdecimal()
            with suppress(pynvml.NVMLError):
                find = pynvml.nvmlDeviceGetHandleByIndex if by_index else pynvml.nvmlDeviceGetHandleByUUID
                found.append(find(int(name) if by_index else name.strip()))
        return found

"""What this process may use: cores, memory, GPUs; and TensorFlow set up accordingly.

What counts is not what the machine has but what control groups, CPU affinity and SLURM grant.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    for group in _control_groups():
        with suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            cores = min(cores, max(1, int(quota) // int(period)))  # "max" is no number: no limit
    with suppress(KeyError, ValueError):
        cores = min(cores, int(os.environ["SLURM_CPUS_PER_TASK"]))
    return max(1, cores)


def available_memory() -> int:
    """Bytes that this process may still take."""
    free = int(psutil.virtual_memory().available)
    for group in _control_groups():
        with suppress(OSError, ValueError):
            limit = int((group / "memory.max").read_text())  # "max" is no number: no limit
            used = int((group / "memory.current").read_text())
            free = min(free, limit - used + _reclaimable(group))
    with suppress(KeyError, ValueError):
        granted = int(os.environ["SLURM_MEM_PER_NODE"]) << 20  # MiB
        free = min(free, granted - int(psutil.Process().memory_info().rss))
    return max(0, free)


def _control_groups() -> list[Path]:
    """The control group (version 2) of this process and all above it: each may set a limit."""
    try:
        name = Path("/proc/self/cgroup").read_text().split("0::", 1)[1].splitlines()[0].lstrip("/")
    except (OSError, IndexError):
        name = ""
    group = _CGROUP / name
    return [group, *(parent for parent in group.parents if parent.is_relative_to(_CGROUP))]


def _reclaimable(group: Path) -> int:
    """Bytes of files read before, which count as used and are given up when memory is needed."""
    for line in (group / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "inactive_file":
            return int(value)
    return 0


@cache
def tensorflow() -> Any:
    """Import TensorFlow and set it up: GPU memory taken as needed, threads as granted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    import tensorflow as tf

    with suppress(RuntimeError):  # somebody has used TensorFlow in this process already
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(available_cores())
        tf.config.threading.set_inter_op_parallelism_threads(available_cores())
    return tf


def keras() -> Any:
    """Import Keras, after TensorFlow is set up: whatever Keras makes first settles TensorFlow's devices."""
    tensorflow()
    import keras

    return keras


def device_summary() -> str:
    """The device that TensorFlow computes on, in words."""
    gpus = tensorflow().config.list_physical_devices("GPU")
    if gpus:
        details = [tensorflow().config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
        return ", ".join(map(str, details))
    return f"CPU, {available_cores()} cores"

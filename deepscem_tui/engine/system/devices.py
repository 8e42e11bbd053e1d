"""What this process may use: cores, memory, GPUs; and TensorFlow set up accordingly.

What counts is not what the machine has but what control groups, CPU affinity and SLURM grant.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from deepscem_tui.engine.reporting import Reporter

_log = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")
_GPU_PLACES = Path("/proc/driver/nvidia/gpus"), Path("/dev/nvidia0")
_tell: ContextVar[Callable[[], None]] = ContextVar("_tell", default=lambda: None)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt


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


@contextmanager
def told_of_loading(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` before this thread imports TensorFlow, which takes some seconds, if it does so in the block."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


@cache
def tensorflow() -> Any:
    """Import TensorFlow and set it up: GPU memory taken as needed, threads as granted."""
    if "tensorflow" not in sys.modules:
        _tell.get()()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with _letting_other_threads_go_on():
        import tensorflow as tf

    with suppress(RuntimeError):  # somebody has used TensorFlow in this process already
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(available_cores())
        tf.config.threading.set_inter_op_parallelism_threads(available_cores())
        _log.debug("TensorFlow %s on %s", tf.__version__, [device.name for device in tf.config.list_physical_devices()])
    return tf


@contextmanager
def _letting_other_threads_go_on() -> Iterator[None]:
    """Keep the import of TensorFlow from stopping the process's other threads for up to 1.5 s.

    Python's import machinery loads shared libraries with the interpreter's lock held; loaded before, through the C
    library's own function, they are found in place. The garbage collector rests meanwhile, and what the import made
    is kept out of its later rounds, each of which would take 150 ms. Of 1,500 ms at most 40 remained.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with suppress(Exception):  # not Linux, or laid out otherwise: it only takes longer
            _load_libraries()
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _load_libraries() -> None:
    found = find_spec("tensorflow")
    assert found is not None
    folder = Path(str(found.origin)).parent
    load = ctypes.CDLL(None).dlopen  # a call through ctypes gives the lock up
    load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2", "python/_pywrap_tensorflow_internal.so"):
        if (folder / name).exists():
            load(os.fsencode(folder / name), os.RTLD_NOW)


@cache
def keras() -> Any:
    """Import Keras, after TensorFlow is set up: whatever Keras makes first settles TensorFlow's devices."""
    tensorflow()
    with _letting_other_threads_go_on():
        import keras

    return keras


def device_summary(devices: str = "auto") -> str:
    """What TensorFlow computes on, in words: ``CPU`` and its cores, or the names of GPUs.

    Args:
        devices: ``"auto"`` for all GPUs, or the CPU where there is none; ``"cpu"``; or numbers of GPUs, ``"0,1"``.
    """
    gpus = [] if devices == "cpu" else tensorflow().config.list_physical_devices("GPU")
    if devices != "auto":
        gpus = [gpu for number, gpu in enumerate(gpus) if str(number) in devices.split(",")]
    if gpus:
        details = [tensorflow().config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
        return ", ".join(map(str, details))
    return f"CPU, {available_cores()} cores"


def say_device(device: str, precision: str, report: Reporter) -> None:
    """Say what is computed on; warn where that is the CPU although there is a GPU."""
    report.message(f"Computing in {precision} on {device}")
    if gpu_not_found():
        report.warning(
            "This machine has an NVIDIA GPU, but TensorFlow finds none. Install what it needs with: "
            "pip install 'deepscem-tui[gpu]'; if that is there, see whether nvidia-smi lists the GPU"
        )


def gpu_not_found(places: Sequence[Path] = _GPU_PLACES) -> bool:
    """Whether there is an NVIDIA GPU, by its driver's files, that TensorFlow does not find though nobody hides it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):  # the last is SLURM's
        return False
    return any(place.exists() for place in places) and not tensorflow().config.list_physical_devices("GPU")


def gpu_names() -> list[str]:
    """Every GPU that TensorFlow computes on, by the name that it takes."""
    return [gpu.name for gpu in tensorflow().config.list_logical_devices("GPU")]


def best_precision() -> str:
    """``"bfloat16"`` where the devices compute with it, which is fast and nearly as good; else ``"float32"``."""
    gpus = tensorflow().config.list_physical_devices("GPU")
    if gpus:
        details = [tensorflow().config.experimental.get_device_details(gpu) for gpu in gpus]
        capable = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        capable = cpu_has_bfloat16()
    return "bfloat16" if capable else "float32"


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16, as far as the system tells (Linux)."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def be_deterministic() -> None:
    """Have TensorFlow use only operations that give the same result each time, from now on."""
    keras().utils.set_random_seed(0)
    tensorflow().config.experimental.enable_op_determinism()


def allow_tensor_float_32(allowed: bool) -> None:
    """Whether GPUs may compute float32 with shortened factors, which is fast and differs in the fourth digit."""
    tensorflow().config.experimental.enable_tensor_float_32_execution(allowed)


def forget_networks() -> None:
    """Let go of what Keras and TensorFlow keep of networks that are gone, as far as they do."""
    import keras

    keras.utils.clear_session()


@contextmanager
def memory_kept_for_reuse() -> Iterator[None]:
    """Let the C library keep large blocks that are freed, rather than give each back to the system and take it anew.

    A network's layers free and take blocks of the same sizes again and again, and the system clears every page of a
    new one: without this, slices of 1024 x 1024 in bfloat16 took twice the time. At the end all is given back.
    """
    library = None
    with suppress(Exception):  # not the GNU C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        with suppress(Exception):
            assert library is not None
            library.mallopt(_M_MMAP_MAX, 65536)  # its defaults
            library.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
            library.malloc_trim(0)

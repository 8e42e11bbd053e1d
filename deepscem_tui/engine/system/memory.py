"""How much memory a network may take, told without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from deepscem_tui.engine.system.devices import available_memory
from deepscem_tui.engine.system.usage import Meter

__all__ = ["Limit", "host_memory", "memory_limit"]


@dataclass(frozen=True)
class Limit:
    """The most that a step may take.

    Args:
        size: Bytes.
        words: What these are, such as ``"1.5 GiB are free"``.
        gpu: Whether it is a GPU's memory.
    """

    size: int
    words: str
    gpu: bool


def memory_limit(on_cpu: bool | None = None) -> Limit | None:
    """Free memory where a network is computed on the CPU; all that the GPU has where it is computed there.

    How much of a GPU is free by the time it is needed, and what its libraries take, only trying tells.

    Args:
        on_cpu: Where TensorFlow computes; None where it was not asked: on a GPU if there is one.

    Returns:
        None if nothing is known.
    """
    gpu = None if on_cpu else _gpu_memory()
    if gpu is not None:
        return Limit(gpu, f"{gpu / 2**30:.1f} GiB is all that the GPU has", True)
    if on_cpu is False:
        return None
    free = available_memory()
    return Limit(free, f"{free / 2**30:.1f} GiB are free", False)


def host_memory(limit: Limit | None) -> int:
    """Bytes of main memory that may be taken, which is what a CPU's limit says."""
    return available_memory() if limit is None or limit.gpu else limit.size


def _gpu_memory() -> int | None:
    """Bytes of the first GPU that this process may use, which is the one that TensorFlow takes."""
    for gpu in Meter().measure().get("gpus", [])[:1]:
        total = gpu.get("memory_total")
        return int(total) if total else None
    return None

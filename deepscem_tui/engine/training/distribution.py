"""On which devices a training computes: one, several GPUs of this machine, or several machines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.system.devices import tensorflow

__all__ = ["Distribution", "distribution"]


@dataclass(frozen=True)
class Distribution:
    """Devices that share each batch and hold the same weights.

    Args:
        strategy: A ``tf.distribute.Strategy``, in whose scope the network is made.
        worker: Number of this process among those that train together; the first, 0, keeps the results.
        n_workers: How many processes there are.
    """

    strategy: Any
    worker: int = 0
    n_workers: int = 1

    @property
    def n_replicas(self) -> int:
        """Devices that share a batch."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def chief(self) -> bool:
        return self.worker == 0

    def share(self, batch_size: int) -> range:
        """Which of a batch's patches this process makes."""
        each = batch_size // self.n_workers
        return range(self.worker * each, (self.worker + 1) * each)

    def placed(self, array: npt.NDArray[Any]) -> Any:
        """The part of a batch that belongs here, (B, ...), shared out among the devices of this process."""
        tf = tensorflow()
        here = self.n_replicas // self.n_workers
        if here == 1:
            return tf.constant(array)
        parts = np.split(array, here)

        def part(context: Any) -> Any:
            return tf.constant(parts[context.replica_id_in_sync_group % here])

        return self.strategy.experimental_distribute_values_from_function(part)

    def agreed(self, *values: float) -> tuple[float, ...]:
        """The sum over all processes of what each gives; they must all ask, in the same order."""
        if self.n_workers == 1:
            return values
        given = tensorflow().constant(values, "float64")
        return tuple(float(value) for value in self._summed(given).numpy())

    @cached_property
    def _summed(self) -> Any:
        """What adds up, traced once: it is asked at every step."""
        here = self.n_replicas // self.n_workers

        @tensorflow().function(reduce_retracing=True)
        def total(values: Any) -> Any:
            return self.strategy.reduce("SUM", self.strategy.run(lambda: values / here), axis=None)

        return total


def distribution(devices: str) -> Distribution:
    """The devices that are asked for.

    Several machines train together where the environment variable ``TF_CONFIG`` names them, as TensorFlow documents it:
    each process is started with the same command and its own place in it.

    Args:
        devices: ``"auto"`` for all GPUs, or the CPU where there is none; ``"cpu"``; or numbers of GPUs, ``"0,1"``.

    Raises:
        ParameterError: there are no such devices.
    """
    tf = tensorflow()
    cluster = _cluster()
    if cluster is not None:
        worker, n_workers = cluster
        return Distribution(tf.distribute.MultiWorkerMirroredStrategy(), worker, n_workers)
    gpus = tf.config.list_physical_devices("GPU")
    if devices == "cpu" or (devices == "auto" and not gpus):
        return Distribution(tf.distribute.OneDeviceStrategy("/cpu:0") if gpus else tf.distribute.get_strategy())
    numbers = list(range(len(gpus))) if devices == "auto" else [int(number) for number in devices.split(",")]
    missing = sorted(set(numbers) - set(range(len(gpus))))
    if missing:
        has = f"there are {len(gpus)} here, from 0 on" if gpus else "there is none that TensorFlow can use here"
        raise ParameterError(
            f"There is no GPU {', '.join(map(str, missing))}: {has}", "Use --devices auto, or cpu.", "devices"
        )
    names = [f"/gpu:{number}" for number in numbers]
    if len(names) == 1:
        return Distribution(tf.distribute.OneDeviceStrategy(names[0]))
    return Distribution(tf.distribute.MirroredStrategy(names))


def _cluster() -> tuple[int, int] | None:
    """The place of this process among those of ``TF_CONFIG``, and their number; None if it is alone.

    Raises:
        ParameterError: the variable is not as it must be.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        kind, index = config["task"]["type"], int(config["task"]["index"])
        if kind != "worker" or set(config["cluster"]) != {"worker"} or not 0 <= index < len(workers):
            raise ValueError("only tasks of the type 'worker' train together, each with its own index")
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"The environment variable TF_CONFIG cannot be used: {error}",
            'It must be like {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
            '"index": 0}}; unset it to train on this machine alone.',
        ) from None
    return (index, len(workers)) if len(workers) > 1 else None

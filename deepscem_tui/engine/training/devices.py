"""What a training computes on, and in which precision."""

from __future__ import annotations

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.networks.geometry import sizes_along
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.system.devices import best_precision, gpu_names
from deepscem_tui.engine.training.distribution import Distribution, distribution
from deepscem_tui.engine.training.plan import Plan

__all__ = ["chosen_devices", "chosen_precision"]


def chosen_precision(parameters: p.Train, plan: Plan, report: Reporter) -> str:
    """The precision to train in: the one asked for, or the fastest there is, unless that would go wrong.

    In bfloat16 oneDNN 3.7 computes the gradient of a 3D convolution's kernel from memory that nobody wrote to, where
    the image is two slices deep: it is right at 1, 3, 4 or more, and in 2D (measured with TensorFlow 2.21 on a CPU
    with avx512_bf16: up to 11 of 30 such gradients were no numbers, others 98 times too large).
    """
    chosen = best_precision() if parameters.precision == "auto" else parameters.precision
    on_cpu = not gpu_names() or parameters.devices == "cpu"
    if chosen == "bfloat16" and on_cpu and plan.info.dimension == 3 and 2 in sizes_along(plan.graph, 0, plan.patch[0]):
        report.warning(
            "Training in float32: on CPUs bfloat16 gives wrong gradients where a level of a 3D network is 2 slices "
            f"deep, as with patches of {plan.patch[0]} slices here"
        )
        return "float32"
    return chosen


def chosen_devices(parameters: p.Train, plan: Plan) -> Distribution:
    """The devices that are asked for.

    Raises:
        ParameterError: there are none such, or a batch cannot be shared out among them.
    """
    shared = distribution(parameters.devices)
    n = shared.n_replicas
    if plan.batch_size % n:
        raise ParameterError(
            f"A batch of {plan.batch_size} patches cannot be shared out evenly among {n} devices",
            f"Use a --batch-size of {max(1, plan.batch_size // n) * n}.",
            "batch_size",
        )
    return shared

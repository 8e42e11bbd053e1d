"""The optimizers that training offers, each with the settings that suit it."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.system.devices import keras, tensorflow

__all__ = ["make_optimizer"]

_SGD_MOMENTUM = 0.99  # as nnU-Net (Isensee et al. 2021)


def make_optimizer(name: str, rate: float, weight_decay: float, variables: list[Any]) -> Any:
    """A Keras optimizer, built for ``variables``.

    Args:
        name: ``"adam"`` (Kingma & Ba 2015), ``"adamw"`` (Loshchilov & Hutter 2019) or ``"sgd"``, with Nesterov's
            momentum.
        rate: Learning rate to begin with.
        weight_decay: Share of itself that each step takes from a weight, times the rate; 0 for none. Biases and what
            normalisations scale and shift by are left alone.
    """
    optimizers = keras().optimizers
    decay = weight_decay or None
    if name == "sgd":
        made = optimizers.SGD(rate, momentum=_SGD_MOMENTUM, nesterov=True, weight_decay=decay)
    elif name == "adamw":
        made = optimizers.AdamW(rate, weight_decay=weight_decay)
    else:
        made = optimizers.Adam(rate, weight_decay=decay)
    if weight_decay:
        kept = [variable for variable in variables if len(variable.shape) < 2]
        if kept:
            made.exclude_from_weight_decay(var_list=kept)
    made.build(variables)
    if tensorflow().distribute.get_strategy().num_replicas_in_sync == 1:
        # A sum over one device changes nothing, but TensorFlow registers a gradient of it, which nobody asks for and
        # which keeps the graph of the traced step for as long as the process lives.
        made._all_reduce_sum_gradients = lambda pairs: pairs
    return made

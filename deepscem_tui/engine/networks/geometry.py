"""What follows from a network's layers: sizes it takes, how far it sees, how much memory it needs.

Computed from the layers' sizes and strides alone, for any network of :mod:`deepscem_tui.engine.networks.graph`'s kinds.
A model, here, is a Keras model or a :class:`~deepscem_tui.engine.networks.graph.Graph`. Imports no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import Any

from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.networks.graph import Graph, Layer, read_graph

_LARGEST_DIVISOR = 1024
# Kinds of layer whose gradient is computed from what they took, and from what they gave.
_NEEDS_INPUT = (
    "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose", "BatchNormalization", "LayerNormalization",
    "GroupNormalization", "MaxPooling2D", "MaxPooling3D", "Maximum", "Multiply",
)  # fmt: skip
_NEEDS_OUTPUT = ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "MaxPooling2D", "MaxPooling3D")
_WHOLE: tuple[Fraction, ...] = ()  # spacing of a layer that gives one voxel for the whole image
UP_KINDS = ("Conv2DTranspose", "Conv3DTranspose", "UpSampling2D", "UpSampling3D")


def graph_of(model: Any) -> Graph:
    """The layers of a Keras model as plain data.

    Raises:
        ModelError: it holds layers that are not known.
    """
    if isinstance(model, Graph):
        return model
    return read_graph({"class_name": "Functional", "config": model.get_config()})


def divisor(model: Any) -> tuple[int, int, int]:
    """Sides of an image, Z, Y, X, must be multiples of these: the products of the strides down to the deepest level.

    1 along Z for a network of slices.

    Raises:
        ModelError: the result would not have the size of the image.
    """
    graph = graph_of(model)
    scales = [scale for scale in _spacings(graph).values() if scale != _WHOLE]
    return _zyx([max(map(ceil, along)) for along in zip(*scales, strict=True)], 1)


def receptive_radius(model: Any) -> tuple[int, int, int]:
    """How far, in voxels along Z, Y, X, a voxel of the result reaches into the image.

    Exact: for each position of a voxel on the grid of the deepest level, the interval of voxels that it depends on is
    followed back through every path of the network, but for those through means over the whole image (see
    :attr:`~deepscem_tui.engine.networks.graph.Graph.sees_all`). Along Z, for a network of slices, as many slices as it
    takes on each side of the one that it is for.

    Raises:
        ModelError: the result would not have the size of the image.
    """
    graph = graph_of(model)
    radii = []
    for axis, period in enumerate(divisor(graph)[3 - graph.dimension :]):
        ends = [(position, *_seen(graph, axis, position)) for position in range(period)]
        radii.append(max(max(position - first, last - position) for position, first, last in ends))
    return _zyx(radii, graph.n_inputs // 2)


def _zyx(values: Sequence[int], of_slices: int) -> tuple[int, int, int]:
    z, y, x = values if len(values) == 3 else (of_slices, *values)
    return z, y, x


def sizes_along(model: Any, axis: int, length: int) -> set[int]:
    """How long the layers' results are along an axis for an image of this length, in their own voxels."""
    spacings = _spacings(graph_of(model)).values()
    return {ceil(length / spacing[axis]) for spacing in spacings if spacing != _WHOLE}


def count_parameters(model: Any) -> int:
    """Numbers in all weights, moving averages of normalisations included."""
    return graph_of(model).n_parameters


def activation_bytes(model: Any, patch_shape: Sequence[int], batch: int, training: bool) -> int:
    """An estimate of the memory that a step takes beside the weights, with values of four bytes.

    Prediction: the most that lives at one time when each layer's result is kept until its last reader is done.
    Training: all results that a gradient is computed from (see :data:`_NEEDS_INPUT`); the others are overwritten.
    To both is added what the layer with the most input and output has of these, since libraries reorder them and
    gradients of that size live beside them.
    On a CPU a process grew by 0.97 to 1.10 of it in training and by 0.69 to 0.83 in prediction, in ten cases measured:
    2D and 3D, U-Net and FCN, 3 to 5 levels.

    Args:
        patch_shape: Y, X or Z, Y, X in voxels.
        batch: Patches at a time.
    """
    graph = graph_of(model)
    sizes = {
        name: 4 * batch * graph.channels[name] * _voxels(patch_shape, spacing)
        for name, spacing in _spacings(graph).items()
    }
    busiest = max(sizes[layer.name] + sum(sizes[name] for name in layer.inputs) for layer in graph.layers)
    if training:
        needed = {layer.name for layer in graph.layers if layer.kind in _NEEDS_OUTPUT}
        needed |= {name for layer in graph.layers if layer.kind in _NEEDS_INPUT for name in layer.inputs}
        return sum(sizes[name] for name in needed) + busiest
    last_reader = {name: index for index, layer in enumerate(graph.layers) for name in (layer.name, *layer.inputs)}
    alive = peak = 0
    for index, layer in enumerate(graph.layers):
        alive += sizes[layer.name]
        peak = max(peak, alive)
        done = {name for name in (layer.name, *layer.inputs) if last_reader[name] == index and name != graph.output}
        alive -= sum(sizes[name] for name in done)
    return peak + busiest


def step_bytes(model: Any, patch_shape: Sequence[int], batch: int, training: bool) -> int:
    """An estimate of the memory that a step takes: :func:`activation_bytes`, and that of the weights.

    In training the weights have gradients and Adam's two moments beside them.
    """
    return activation_bytes(model, patch_shape, batch, training) + weight_bytes(model, training)


def weight_bytes(model: Any, training: bool) -> int:
    """Memory of the weights, of four bytes each; in training with their gradients and Adam's two moments."""
    return 4 * count_parameters(model) * (4 if training else 1)


def _voxels(shape: Sequence[int], spacing: Sequence[Fraction]) -> int:
    if spacing == _WHOLE:
        return 1
    return prod(ceil(side / step) for side, step in zip(shape, spacing, strict=True))


# ------------------------------------------------------------------------------------------------ sampling of a layer


@dataclass(frozen=True)
class _Sampling:
    """How a layer's result lies on its input along one axis.

    Args:
        kernel: Voxels that it looks at, gaps of a dilated kernel included.
        stride: Input voxels a result voxel, or, upwards, result voxels an input voxel.
        before: Of the kernel's voxels, those before the one that it belongs to.
    """

    up: bool
    kernel: int
    stride: int
    before: int

    def sources(self, first: int, last: int) -> tuple[int, int]:
        """Input voxels that the result voxels ``first..last`` depend on; ``first > last`` if on none."""
        if self.up:
            start = -(-(first + self.before - self.kernel + 1) // self.stride)
            return start, (last + self.before) // self.stride
        return first * self.stride - self.before, last * self.stride - self.before + self.kernel - 1


def _sampling(layer: Layer, axis: int) -> _Sampling:
    settings = layer.settings
    up = layer.kind in UP_KINDS
    if "size" in settings:
        stride = settings["size"][axis]
        if settings.get("interpolation") == "bilinear":  # between the centres of the two nearest voxels
            return _Sampling(up, 2 * stride - stride % 2, stride, stride // 2)
        return _Sampling(up, stride, stride, 0)
    window = settings.get("kernel_size", settings.get("pool_size"))
    if window is None:
        return _Sampling(False, 1, 1, 0)
    stride = settings["strides"][axis]
    dilation = settings["dilation_rate"][axis] if "dilation_rate" in settings else 1
    kernel = (window[axis] - 1) * dilation + 1
    if settings["padding"] == "valid" and kernel > stride:
        raise ModelError(
            f"Layer {layer.name!r} gives a result smaller or larger than its input, since it is not padded",
            "Only networks whose layers have padding='same' can be used.",
        )
    return _Sampling(up, kernel, stride, max(kernel - stride, 0) // 2)


def _spacings(graph: Graph) -> dict[str, tuple[Fraction, ...]]:
    """Image voxels a voxel of each layer's result, along each axis; :data:`_WHOLE` if it is one voxel for all."""
    result: dict[str, tuple[Fraction, ...]] = {}
    for layer in graph.layers:
        given = {result[name] for name in layer.inputs} or {(Fraction(1),) * graph.dimension}
        if layer.kind.startswith("GlobalAveragePooling"):
            given = {_WHOLE}
        elif layer.kind == "Multiply" and len(given) > 1:  # by one number a channel
            given.discard(_WHOLE)
        if len(given) > 1:
            raise ModelError(f"Layer {layer.name!r} joins inputs of different resolutions")
        samplings = [_sampling(layer, axis) for axis in range(graph.dimension)]
        if given == {_WHOLE}:
            if any(sampling.stride > 1 for sampling in samplings):
                raise ModelError(f"Layer {layer.name!r} changes the resolution of what is one voxel")
            result[layer.name] = _WHOLE
            continue
        result[layer.name] = tuple(
            spacing / sampling.stride if sampling.up else spacing * sampling.stride
            for spacing, sampling in zip(given.pop(), samplings, strict=True)
        )
        if max(result[layer.name]) > _LARGEST_DIVISOR or min(result[layer.name]) < Fraction(1, _LARGEST_DIVISOR):
            raise ModelError(f"Layer {layer.name!r} changes the resolution more than {_LARGEST_DIVISOR} times")
    if set(result[graph.output]) != {Fraction(1)}:
        raise ModelError("The network's result has not the resolution of the image")
    return result


def _seen(graph: Graph, axis: int, position: int) -> tuple[int, int]:
    """First and last voxel of the image that the result at ``position`` depends on."""
    needed = {graph.output: (position, position)}
    for layer in reversed(graph.layers[1:]):
        if layer.name not in needed or layer.kind.startswith("GlobalAveragePooling"):
            continue
        first, last = _sampling(layer, axis).sources(*needed.pop(layer.name))
        if first > last:  # between the voxels of an upward convolution with a kernel smaller than its stride
            continue
        for name in layer.inputs:
            before = needed.get(name, (first, last))
            needed[name] = (min(before[0], first), max(before[1], last))
    return needed.get(graph.layers[0].name, (position, position))

"""The network of a bundle as straight-line steps for one sample, read from the ONNX graph itself.

With a batch of one every shape is known, so that whatever does not depend on the observation (shape arithmetic,
Constant nodes, index lists) is worked out here, by ONNX's own reference implementation, and what is left for C is
arithmetic on arrays of fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from robot_rl.errors import UserError

ELEMENTWISE = {
    "Abs": "fabsf({0})",
    "Add": "{0} + {1}",
    "Div": "{0} / {1}",
    "Equal": "{0} == {1} ? 1.0f : 0.0f",
    "Erf": "erff({0})",
    "Exp": "expf({0})",
    "Greater": "{0} > {1} ? 1.0f : 0.0f",
    "GreaterOrEqual": "{0} >= {1} ? 1.0f : 0.0f",
    "Less": "{0} < {1} ? 1.0f : 0.0f",
    "LessOrEqual": "{0} <= {1} ? 1.0f : 0.0f",
    "Log": "logf({0})",
    "Max": "fmaxf({0}, {1})",
    "Min": "fminf({0}, {1})",
    "Mul": "{0} * {1}",
    "Neg": "-{0}",
    "Reciprocal": "1.0f / {0}",
    "Relu": "fmaxf({0}, 0.0f)",
    "Sigmoid": "1.0f / (1.0f + expf(-{0}))",
    "Softplus": "fmaxf({0}, 0.0f) + logf(1.0f + expf(-fabsf({0})))",
    "Sqrt": "sqrtf({0})",
    "Sub": "{0} - {1}",
    "Tanh": "tanhf({0})",
    "Where": "{0} != 0.0f ? {1} : {2}",
}
"""Operators of one formula per element, in C; {k} is the element of input k."""
MOVING = ("Expand", "Gather", "Slice", "Transpose")
"""Operators that only pick elements of their first input: for C they become a list of indices."""
SAME = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that change no value in memory."""
LAYERS = (
    "Clip", "Concat", "Elu", "Gemm", "LayerNormalization", "LeakyRelu", "LogSoftmax", "MatMul", "Softmax"
)  # fmt: skip
"""Operators that `network` writes by name."""
SUPPORTED = (*ELEMENTWISE, *MOVING, *SAME, *LAYERS)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operator whose result depends on the observation."""

    operator: str
    """ONNX's name for it."""
    name: str
    """Its name in the graph, for comments and errors."""
    inputs: tuple[str, ...]
    """Names of its inputs; "" is one that was left out."""
    output: str
    """Name of its result."""
    attributes: Mapping[str, Any]
    """ONNX's attributes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network for one sample."""

    steps: tuple[Step, ...]
    """What depends on the observation, in order."""
    values: Mapping[str, np.ndarray]
    """Every array of the graph for an observation of zeros: shapes, and the constants."""
    varying: frozenset[str]
    """Names of arrays that depend on the observation; all others are constants."""

    def constant(self, step: Step, name: str) -> np.ndarray:
        """The constant input `name` of a step.

        Raises:
            UserError: It depends on the observation.
        """
        if name in self.varying:
            raise UserError(
                f"{step.operator} {step.name!r}: input {name!r} depends on the observation; C needs it fixed"
            )
        return self.values[name]


def read_network(path: Path) -> Network:
    """Read `policy.onnx`.

    Raises:
        UserError: It has an input or an operator that C does not have, by name.
    """
    model = onnx.load(str(path))
    inputs = [value.name for value in model.graph.input]
    if inputs != ["observation"]:
        extra = ", ".join(name for name in inputs if name != "observation")
        raise UserError(f"{path.parent.name}: the network's input {extra} is not available in C, only `observation`")
    varying = {"observation"}
    steps = []
    for node in model.graph.node:
        if node.op_type == "Shape" or not varying & set(node.input):
            continue
        if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx"):
            raise UserError(
                f"{path.parent.name}: operator {node.op_type} ({node.name or node.output[0]}) is not available in C; "
                f"available are {', '.join(sorted(SUPPORTED))}"
            )
        varying.update(node.output)
        steps.append(_step(node))
    return Network(steps=tuple(steps), values=_values(model), varying=frozenset(varying))


def _step(node: NodeProto) -> Step:
    return Step(
        operator=node.op_type,
        name=node.name or node.output[0],
        inputs=tuple(node.input),
        output=node.output[0],
        attributes={attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
    )


def _values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every array of the graph for one observation of zeros."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    values["observation"] = np.zeros((1, size), np.float32)
    names = [name for node in model.graph.node for name in node.output if name]
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    del traced.graph.output[:]
    traced.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    results = ReferenceEvaluator(traced).run(None, {"observation": values["observation"]})
    values.update({name: np.asarray(result) for name, result in zip(names, results, strict=True)})
    return values


def moved_indices(network: Network, step: Step) -> np.ndarray:
    """For each element of the result, in memory order, the index of the element of the first input that it is."""
    source = network.values[step.inputs[0]]
    indices = np.arange(source.size).reshape(source.shape)
    if step.operator == "Transpose":
        return np.transpose(indices, step.attributes.get("perm")).ravel()
    rest = [network.constant(step, name) if name else None for name in step.inputs[1:]]
    if step.operator == "Gather":
        return np.take(indices, np.asarray(rest[0]), axis=step.attributes.get("axis", 0)).ravel()
    if step.operator == "Expand":
        return np.broadcast_to(indices, network.values[step.output].shape).ravel()
    return indices[_slices(source.shape, rest)].ravel()


def _slices(shape: tuple[int, ...], given: list[np.ndarray | None]) -> tuple[slice, ...]:
    """ONNX Slice's starts, ends, axes, steps as Python's slices; it clamps as Python does, except backwards to 0."""
    starts, ends = (np.asarray(value).ravel() for value in given[:2])
    axes = np.arange(len(starts)) if len(given) < 3 or given[2] is None else given[2].ravel()
    steps = np.ones(len(starts), int) if len(given) < 4 or given[3] is None else given[3].ravel()
    result = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        stop = None if step < 0 and end < -shape[axis] else end
        result[axis] = slice(start, stop, step)
    return tuple(result)

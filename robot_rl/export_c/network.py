"""The network in C: one line per step of the graph, the constants beside it, and one reused working memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robot_rl.errors import UserError
from robot_rl.export_c.graph import ELEMENTWISE, MOVING, SAME, Network, Step, moved_indices


@dataclass(frozen=True, kw_only=True)
class NetworkCode:
    """The network in C."""

    constants: str
    """Definitions of the constant arrays."""
    body: str
    """Statements that go from `observation` to `action`, with `scratch` to work in."""
    scratch: int
    """Floats of working memory that it needs."""
    parameters: int
    """Floats of constants that it has."""


def number(value: float) -> str:
    """A float literal that reads back as the same float32.

    Raises:
        UserError: The value is not finite.
    """
    single = np.float32(value)
    if not np.isfinite(single):
        raise UserError(f"a constant of the network is {value}; it must be a finite float32")
    text = f"{float(single):.9g}"
    return (text if any(mark in text for mark in ".e") else f"{text}.0") + "f"


def array(values: np.ndarray, indent: str = "    ") -> str:
    """The elements of an array, in lines."""
    texts = [number(value) for value in np.asarray(values).ravel().tolist()]
    return ",\n".join(indent + ", ".join(texts[i : i + 8]) for i in range(0, len(texts), 8))


@dataclass
class _Writer:
    """Collects what is written; `places` says where in C each array of the graph is."""

    network: Network
    constants: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=lambda: {"observation": "observation"})
    parameters: int = 0

    def size(self, name: str) -> int:
        return int(self.network.values[name].size)

    def constant(self, values: np.ndarray, name: str = "") -> str:
        """Store an array of floats, once per array of the graph; returns its C name."""
        if name and name in self.places:
            return self.places[name]
        label = f"constant_{len(self.constants)}"
        if values.dtype.kind == "i" and not name:
            text = ", ".join(map(str, values.tolist()))
            self.constants.append(f"static const unsigned short {label}[{values.size}] = {{{text}}};")
        else:
            self.constants.append(f"static const float {label}[{values.size}] = {{\n{array(values)}\n}};")
            self.parameters += values.size
        if name:
            self.places[name] = label
        return label

    def element(self, step: Step, name: str) -> str:
        """C expression of the element of input `name` that belongs to element i of the step's result."""
        out, shape = self.network.values[step.output].shape, self.network.values[name].shape
        fixed = name not in self.network.varying
        if self.size(name) == 1:
            return number(self.network.values[name].item()) if fixed else f"{self.places[name]}[0]"
        place = self.constant(self.network.values[name], name) if fixed else self.places[name]
        if self.size(name) == self.size(step.output):
            return f"{place}[i]"
        if shape == out[len(out) - len(shape) :]:
            return f"{place}[i % {self.size(name)}]"
        raise UserError(f"{step.operator} {step.name!r}: C does not broadcast {shape} to {out}")

    def formula(self, step: Step, formula: str) -> str:
        return f"for (int i = 0; i < {self.size(step.output)}; i++) {self.places[step.output]}[i] = {formula};"


def write_network(network: Network, action_size: int) -> NetworkCode:
    """Turn a network into C.

    Raises:
        UserError: An operator is used in a way that C does not have, by name.
    """
    writer = _Writer(network)
    steps = [step for step in network.steps if step.operator not in SAME]
    source = {step.output: step.inputs[0] for step in network.steps if step.operator in SAME}
    offsets, scratch = _place(network, steps, source)
    for step in network.steps:
        if step.operator in SAME:
            writer.places[step.output] = writer.places[step.inputs[0]]
            continue
        writer.places[step.output] = f"t{steps.index(step)}"
        writer.lines.append(f"float *const t{steps.index(step)} = scratch + {offsets[step.output]};")
        writer.lines.append(f"{_code(writer, step)} /* {step.operator} */")
    writer.lines.append(f"for (int i = 0; i < {action_size}; i++) action[i] = {writer.places['action']}[i];")
    return NetworkCode(
        constants="\n".join(writer.constants),
        body="\n".join(f"    {line}" for line in writer.lines),
        scratch=max(scratch, 1),
        parameters=writer.parameters,
    )


def _code(writer: _Writer, step: Step) -> str:
    if step.operator in ELEMENTWISE:
        return writer.formula(step, ELEMENTWISE[step.operator].format(*(writer.element(step, n) for n in step.inputs)))
    if step.operator in MOVING:
        indices = moved_indices(writer.network, step)
        source = writer.places[step.inputs[0]]
        if np.array_equal(indices, indices[0] + np.arange(len(indices))):
            return writer.formula(step, f"{source}[i + {indices[0]}]")
        return writer.formula(step, f"{source}[{writer.constant(indices)}[i]]")
    if step.operator in ("Elu", "LeakyRelu"):
        alpha = number(step.attributes.get("alpha", 1.0 if step.operator == "Elu" else 0.01))
        x = writer.element(step, step.inputs[0])
        low = f"(expf({x}) - 1.0f)" if step.operator == "Elu" else x
        return writer.formula(step, f"{x} > 0.0f ? {x} : {alpha} * {low}")
    if step.operator == "Clip":
        formula = writer.element(step, step.inputs[0])
        for function, name in zip(("fmaxf", "fminf"), step.inputs[1:], strict=False):
            if name:
                formula = f"{function}({formula}, {number(writer.network.constant(step, name).item())})"
        return writer.formula(step, formula)
    if step.operator in ("Gemm", "MatMul"):
        return _dense(writer, step)
    if step.operator == "Concat":
        return _concat(writer, step)
    return _rows(writer, step)


def _dense(writer: _Writer, step: Step) -> str:
    given, attributes = writer.network.values[step.inputs[0]], step.attributes
    weight = writer.network.constant(step, step.inputs[1])
    if attributes.get("transA") or weight.ndim != 2:
        raise UserError(f"{step.operator} {step.name!r}: C multiplies rows with a constant matrix only")
    weight = (weight.T if attributes.get("transB") else weight) * attributes.get("alpha", 1.0)
    inputs, outputs = weight.shape
    bias = np.zeros(outputs, np.float32)
    if len(step.inputs) > 2 and step.inputs[2]:
        third = writer.network.constant(step, step.inputs[2]) * attributes.get("beta", 1.0)
        if third.size not in (1, outputs):
            raise UserError(f"{step.operator} {step.name!r}: C adds one bias per output, not {third.shape}")
        bias = np.broadcast_to(third.ravel(), outputs)
    names = [writer.constant(np.asarray(values, np.float32), f"{step.name}.{k}") for k, values in
             (("weight", weight), ("bias", bias))]  # fmt: skip
    shape = f"{given.size // inputs}, {inputs}, {outputs}"
    return f"policy_dense({writer.places[step.inputs[0]]}, {', '.join(names)}, {shape}, {writer.places[step.output]});"


def _concat(writer: _Writer, step: Step) -> str:
    shape = writer.network.values[step.output].shape
    if any(length != 1 for length in shape[: step.attributes["axis"] % len(shape)]):
        raise UserError(f"Concat {step.name!r}: C joins whole arrays only, not along axis {step.attributes['axis']}")
    parts, offset = [], 0
    for name in step.inputs:
        place = writer.places[name] if name in writer.network.varying else writer.constant(
            np.asarray(writer.network.values[name], np.float32), name
        )  # fmt: skip
        out = writer.places[step.output]
        parts.append(f"for (int i = 0; i < {writer.size(name)}; i++) {out}[{offset} + i] = {place}[i];")
        offset += writer.size(name)
    return "\n    ".join(parts)


def _rows(writer: _Writer, step: Step) -> str:
    """Operators along the last axis."""
    shape = writer.network.values[step.inputs[0]].shape
    if step.attributes.get("axis", -1) % len(shape) != len(shape) - 1:
        raise UserError(f"{step.operator} {step.name!r}: C works along the last axis only")
    arguments = [writer.places[step.inputs[0]]]
    rows = f"{int(np.prod(shape[:-1]))}, {shape[-1]}"
    if step.operator == "LayerNormalization":
        scale = writer.network.constant(step, step.inputs[1])
        has_bias = len(step.inputs) > 2 and step.inputs[2]
        bias = writer.network.constant(step, step.inputs[2]) if has_bias else np.zeros_like(scale)
        arguments += [writer.constant(scale, f"{step.name}.scale"), writer.constant(bias, f"{step.name}.bias")]
        rows += f", {number(step.attributes.get('epsilon', 1e-5))}"
    function = {"LayerNormalization": "layer_norm", "LogSoftmax": "log_softmax", "Softmax": "softmax"}[step.operator]
    return f"policy_{function}({', '.join(arguments)}, {rows}, {writer.places[step.output]});"


def _place(network: Network, steps: Sequence[Step], source: dict[str, str]) -> tuple[dict[str, int], int]:
    """Offset of every result in the working memory, and its size: an array's place is free after its last use."""

    def origin(name: str) -> str:
        while name in source:
            name = source[name]
        return name

    last = {origin(name): k for k, step in enumerate(steps) for name in step.inputs}
    last[origin("action")] = len(steps)
    live: dict[str, tuple[int, int]] = {}
    offsets: dict[str, int] = {}
    top = 0
    for k, step in enumerate(steps):
        live = {name: span for name, span in live.items() if last.get(name, -1) >= k}
        size, begin = int(network.values[step.output].size), 0
        for low, high in sorted(live.values()):
            if begin + size <= low:
                break
            begin = max(begin, high)
        live[step.output] = (begin, begin + size)
        offsets[step.output] = begin
        top = max(top, begin + size)
    return offsets, top

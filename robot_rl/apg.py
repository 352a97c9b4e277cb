"""Analytic policy gradients through the differentiable quadrotor simulator.

A batch of vehicles is flown for a window of control periods under autograd; the mean cost of the
window is differentiated through policy, sensors, latency, rotors and rigid body with respect to the
policy's weights (back-propagation through time), and Adam takes a step. The next window starts where
the last one ended, without its gradient, so that long recoveries and the integral of the position
error are seen although a window is only 0.6 s long.

Sources: the idea is as old as Werbos, "Backpropagation through time" (1990); for quadrotors see
Wiedemann et al., "Training efficient controllers via analytic policy gradient" (ICRA 2023) and
Heeg, Song, Scaramuzza, "Learning quadrotor control from visual features using differentiable
simulation" (2024). Departures, each of which was measured to matter:

- gradients flow through `sim.quadrotor.fast_step`, one force evaluation per period instead of four;
- a vehicle that has recovered is replaced by a fresh throw sooner than one that has not: what is
  still hard stays in the batch;
- throws begin gently and reach their full range after a share of the training (`curriculum`).

One control period is compiled with `torch.compile` where a C++ compiler is found. The result is the
same up to rounding; without one, training takes about three times as long.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hardware.descriptions import load_quadrotor
from policies import observations
from robot_rl.networks import TanhPolicy
from sim import quadrotor
from sim.quadrotor_model import LoopModel, loop_model, nominal_variables, physical_parameters
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks import quadrotor as task_functions
from sim.tasks.quadrotor import Path, QuadrotorTask, Simulation
from sim.trees import tree_detach, tree_fill, tree_index, tree_leaves, tree_map, tree_where


@dataclass(frozen=True, kw_only=True)
class CostWeights:
    """Cost of a control period, per vehicle."""

    position: float = 1.0
    """Per m of distance from the set-point; quadratic within `position_scale`."""
    position_scale: float = 0.05
    """m, below which the position cost is quadratic."""
    linear_velocity: float = 0.05
    """Per m/s of velocity error; quadratic within 0.1 m/s."""
    angular_velocity: float = 0.1
    """Per rad/s of body rate; quadratic within 1 rad/s."""
    tilt: float = 0.3
    """Times 1 - cos of the angle to upright."""
    yaw: float = 0.05
    """Times 1 - cos of the heading error."""
    action_change: float = 0.1
    """Times the squared change of the normalized action from one period to the next."""


@dataclass(frozen=True, kw_only=True)
class ApgConfig:
    """Settings of analytic policy gradients."""

    updates: int | None = None
    """Gradient steps, None for as many as the task needs (`apg_updates`). The learning rate falls along
    a cosine to nearly zero at the last one."""
    num_envs: int = 128
    """Vehicles flown side by side."""
    horizon: int = 60
    """Control periods per window, through which the gradient flows."""
    learning_rate: float = 1e-2
    """Adam's learning rate after the warm-up."""
    warm_up: int = 20
    """Updates over which the learning rate rises from a tenth; without it some seeds saturate and stay so."""
    final_learning_rate: float = 0.02
    """Share of it that is left at the end."""
    max_gradient_norm: float = 1.0
    """Longer gradients are shortened to it."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    cost: CostWeights = CostWeights()
    """What is minimized."""
    curriculum: float = 0.15
    """Share of the training in which throws grow from a fifth to their full range."""
    renewal: float = 0.2
    """Chance per window that a vehicle within 0.25 m of its set-point is replaced by a fresh throw."""
    hard_renewal: float = 0.03
    """The same for a vehicle farther away."""
    margin: float = 0.2
    """Share by which ranges of randomization are widened in training, so that their ends lie inside."""
    lost_distance: float = 12.0
    """m from the set-point at which a vehicle is lost and thrown anew."""
    retry: float = 0.8
    """Chance that a lost vehicle is thrown again as it was, instead of another one: vehicles that the
    policy cannot fly yet gather in the batch until it can."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether to compile a control period; `auto` does where a C++ compiler is on the path."""


class Apg:
    """The state of a training run: policy, optimizer, and the vehicles in flight."""

    def __init__(self, task: QuadrotorTask, config: ApgConfig, seed: int, device: str = "cpu") -> None:
        """Start a run; `seed` alone decides it on one machine."""
        if config.updates is None:
            config = dataclasses.replace(config, updates=task.apg_updates)
        self.task, self.config, self.updates = task, config, 0
        self.total = config.updates or 0
        """Updates of the whole run."""
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._description = load_quadrotor(task.robot)
        self._randomizer = Randomizer(
            nominal_variables(self._description, torch.device(device)),
            tuple(_widened(term, config.margin, task.period) for term in task.randomization),
            config.num_envs,
            self._generator,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = TanhPolicy(
                observations.observation_size(task.terms), 4, config.hidden, initial_action=0.5
            ).to(device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
        self._period = _compiled(self._control_period, config.compile)
        self._fleet = self._launch()
        self._spare = self._launch()

    def update(self) -> dict[str, float]:
        """Fly one window, take one gradient step; returns metrics.

        Raises:
            FloatingPointError: No vehicle has a finite cost; the message says what to lower.
        """
        costs, fleet, distance = self._fly_window()
        finite = torch.isfinite(costs["total"])
        if not bool(finite.any()):
            raise FloatingPointError(
                f"update {self.updates}: the cost of every vehicle is not finite; lower learning_rate "
                f"({self.config.learning_rate:g}) or horizon ({self.config.horizon})"
            )
        cost = torch.where(finite, costs["total"], 0.0).mean()
        rate = _learning_rate(self.config, self.updates, self.total)
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.zero_grad()
        cost.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        if bool(torch.isfinite(norm)):
            self._optimizer.step()
        self.updates += 1
        self._fleet = self._renew(fleet, distance)
        metrics = {name: float(value.detach()[finite].mean()) for name, value in costs.items()}
        return {
            "loss": metrics.pop("total"),
            **{f"cost/{name}": value for name, value in metrics.items()},
            "distance_m": float(distance[torch.isfinite(distance)].clamp(max=100.0).mean()),
            "gradient_norm": float(norm),
            "learning_rate": rate,
        }

    def policy(self) -> torch.nn.Module:
        """The network: observation (N, D) to normalized action (N, A)."""
        return self.network

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a later process needs to go on with the same run, as named tensors."""
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for index, slot in self._optimizer.state_dict()["state"].items():
            state.update({f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slot.items()})
        state.update({f"fleet.{name}": leaf.detach() for name, leaf in tree_leaves(self._fleet)})
        state.update({f"spare.{name}": leaf.detach() for name, leaf in tree_leaves(self._spare)})
        state.update({f"randomizer.{name}": value for name, value in self._randomizer.values.items()})
        state["generator"] = self._generator.get_state()
        state["updates"] = torch.tensor(self.updates)
        return {name: value.clone().contiguous() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with the same task and config."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, key = name.split(".")
            slots.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._fleet = tree_fill(self._fleet, part("fleet."))
        self._spare = tree_fill(self._spare, part("spare."))
        self._randomizer.values.update(part("randomizer."))
        self._generator.set_state(state["generator"])
        self.updates = int(state["updates"])

    def _launch(self) -> _Fleet:
        """Fresh throws for every place of the batch, at this point of the curriculum."""
        share = self.updates / max(1.0, self.config.curriculum * self.total)
        scale = min(1.0, 0.2 + 0.8 * share)
        start = self.task.start
        start = dataclasses.replace(
            start,
            position=start.position * scale,
            tilt=start.tilt * scale,
            linear_velocity=start.linear_velocity * scale,
            angular_velocity=start.angular_velocity * scale,
        )
        task = dataclasses.replace(self.task, start=start)
        count, device = self.config.num_envs, self._generator.device
        self._randomizer.reset(torch.ones(count, dtype=torch.bool, device=device))
        parameters = physical_parameters(self._randomizer.values, self._description)
        path = task_functions.draw_path(task.path, count, self._generator)
        age = torch.zeros(count, device=device)
        simulation = task_functions.draw_start(task, parameters, task_functions.setpoint_at(path, age), self._generator)
        loop = loop_model(self._randomizer.values, task.period)
        return _prepared(_Fleet(parameters, loop, path, simulation, age))

    def _control_period(
        self,
        simulation: Simulation,
        setpoint: task_functions.QuadrotorSetpoint,
        parameters: quadrotor.QuadrotorParameters,
        loop: LoopModel,
        white: Tensor,
    ) -> tuple[Simulation, Tensor]:
        """One control period of the loop, under autograd."""
        observation, memory, current = task_functions.observe(self.task, simulation, setpoint, loop, white)
        action = self.network(observation)
        after = task_functions.advance(
            self.task, simulation, memory, current, action, parameters, loop, quadrotor.fast_step
        )
        return after, action

    def _fly_window(self) -> tuple[dict[str, Tensor], _Fleet, Tensor]:
        """Costs (N) by name, the fleet after the window, and its distance (N) m from the set-points."""
        fleet, horizon, period = self._fleet, self.config.horizon, self.task.period
        count = len(fleet.age)
        white = torch.randn(horizon, count, 13, generator=self._generator, device=self._generator.device)
        times = fleet.age + period * torch.arange(horizon + 1, device=fleet.age.device)[:, None]
        setpoints = task_functions.setpoint_at(fleet.path, times)
        simulation, actions, states = fleet.simulation, [fleet.simulation.actions[:, 0]], []
        rows = zip(*(leaf.unbind(0) for _, leaf in tree_leaves(setpoints)), white, strict=False)
        for *row, noise in rows:
            setpoint = task_functions.QuadrotorSetpoint(*row)
            simulation, action = self._period(simulation, setpoint, fleet.parameters, fleet.loop, noise)
            actions.append(action)
            states.append(simulation.state)
        flown = tree_map(lambda *leaves: torch.stack(leaves), *states)
        target = tree_index(setpoints, slice(1, None))
        costs = _costs(self.config.cost, flown, target, torch.stack(actions))
        with torch.no_grad():
            distance = (flown.position[-1] - target.position[-1]).norm(dim=-1)
        after = dataclasses.replace(fleet, simulation=tree_detach(simulation), age=fleet.age + horizon * period)
        return costs, after, distance

    @torch.no_grad()
    def _renew(self, fleet: _Fleet, distance: Tensor) -> _Fleet:
        """Throw lost vehicles again, and some of the others, most of them replaced by new ones."""
        config, count = self.config, len(distance)
        chance = torch.where(distance < 0.25, config.renewal, config.hard_renewal)
        dice = torch.rand(2, count, generator=self._generator, device=distance.device)
        lost = ~(distance < config.lost_distance)  # also where the distance is not a number
        thrown = (dice[0] < chance) | lost
        replaced = thrown & ~(lost & (dice[1] < config.retry))
        if self.updates % 4 == 0:  # few places are renewed at once: one draw serves several windows
            self._spare = self._launch()
        fresh = self._spare
        kept = _Fleet(fleet.parameters, fleet.loop, fresh.path, fresh.simulation, fresh.age)
        return _prepared(tree_where(replaced, fresh, tree_where(thrown, kept, fleet)))


@dataclass(frozen=True, eq=False)
class _Fleet:
    """The vehicles in flight, batched over N."""

    parameters: quadrotor.QuadrotorParameters
    loop: LoopModel
    path: Path
    simulation: Simulation
    age: Tensor


def _widened(term: RandomizationTerm, margin: float, period: float) -> RandomizationTerm:
    """`term` with its range stretched by `margin` of its length, on both sides where that keeps its sign."""
    if term.distribution == "gaussian" or term.has_zero_range:
        return term
    if term.distribution == "loguniform":
        stretch = (term.high / term.low) ** (0.5 * margin)
        return dataclasses.replace(term, low=term.low / stretch, high=term.high * stretch)
    extra = 0.5 * margin * (term.high - term.low)
    low = max(0.0, term.low - extra) if term.low >= 0.0 else term.low - extra
    high = term.high + extra
    # The simulation keeps one earlier state: an observation cannot be older than a period.
    return dataclasses.replace(
        term, low=low, high=min(high, period) if term.parameter == "observation_latency" else high
    )


def _prepared(fleet: _Fleet) -> _Fleet:
    """Give every tensor the layout that the compiled period has seen before, so that it is compiled once."""
    fleet = tree_map(lambda leaf: leaf.detach().clone(memory_format=torch.contiguous_format), fleet)
    simulation = tree_map(lambda leaf: leaf.requires_grad_(), fleet.simulation)
    return dataclasses.replace(fleet, simulation=simulation)


def _costs(
    weights: CostWeights,
    flown: task_functions.QuadrotorState,
    target: task_functions.QuadrotorSetpoint,
    actions: Tensor,
) -> dict[str, Tensor]:
    """Mean costs (N) over a window of states (T, N, ...) and T + 1 actions (T + 1, N, 4)."""

    def distance(vector: Tensor, scale: float) -> Tensor:
        """Length of `vector`, quadratic below `scale`, with a gradient everywhere."""
        return torch.sqrt(vector.square().sum(-1) + scale * scale) - scale

    w, z = flown.orientation[..., 0], flown.orientation[..., 3]
    cosine, sine = w * w - z * z, 2.0 * w * z
    length = torch.sqrt(cosine.square() + sine.square() + 1e-4)
    aligned = (torch.cos(target.yaw) * cosine + torch.sin(target.yaw) * sine) / length
    costs = {
        "position": weights.position * distance(flown.position - target.position, weights.position_scale),
        "linear_velocity": weights.linear_velocity * distance(flown.linear_velocity - target.velocity, 0.1),
        "angular_velocity": weights.angular_velocity * distance(flown.angular_velocity, 1.0),
        "tilt": weights.tilt * 2.0 * flown.orientation[..., 1:3].square().sum(-1),
        "yaw": weights.yaw * (1.0 - aligned),
        "action_change": weights.action_change * (actions[1:] - actions[:-1]).square().sum(-1),
    }
    means = {name: value.mean(0) for name, value in costs.items()}
    return {"total": torch.stack(list(means.values())).sum(0), **means}


def _learning_rate(config: ApgConfig, update: int, total: int) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate`."""
    warm = min(1.0, 0.1 + 0.9 * update / max(1, config.warm_up))
    cosine = 0.5 * (1.0 + math.cos(math.pi * update / total))
    share = config.final_learning_rate + (1.0 - config.final_learning_rate) * cosine
    return config.learning_rate * warm * share


def _compiled(
    function: Callable[..., tuple[Simulation, Tensor]], mode: str
) -> Callable[..., tuple[Simulation, Tensor]]:
    """`function` through torch.compile, or as it is where there is no C++ compiler."""
    if mode == "off" or (mode == "auto" and not any(shutil.which(name) for name in ("g++", "clang++"))):
        return function
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # helper processes cost more than they save
    inductor.size_asserts = False
    inductor.alignment_asserts = False
    # The array-API wrappers cache their namespace look-ups, which the tracer rightly looks through.
    warnings.filterwarnings("ignore", message=".*lru_cache.*", category=UserWarning)
    compiled: Callable[..., tuple[Simulation, Tensor]] = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled

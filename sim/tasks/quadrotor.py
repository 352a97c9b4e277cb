"""What the quadrotor tasks share: configuration, and one control period as a pure function.

`advance` is the whole loop of a policy on a vehicle: set-point, sensors, observation, (policy),
action latency, rotors, rigid body. The buffered environment calls it with `sim.quadrotor.step`,
analytic policy gradients call it with `sim.quadrotor.fast_step` under autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardware import setpoints
from policies import actions, observations, quadrotor_terms, rotation
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import Memory, TermConfig
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState
from sim.quadrotor import QuadrotorParameters, hover_speed
from sim.quadrotor_model import LoopModel, measure, pack
from sim.randomization import RandomizationTerm


@dataclass(frozen=True, kw_only=True)
class StartRanges:
    """Where episodes start, relative to the set-point; uniform in each range."""

    position: float = 0.5
    """m, each axis within ±."""
    tilt: float = 1.5708
    """rad, largest angle between body z and world z."""
    linear_velocity: float = 1.0
    """m/s, each axis within ±."""
    angular_velocity: float = 1.0
    """rad/s, each axis within ±."""
    yaw: float = 3.1416
    """rad, heading within ± of the set-point's."""
    easy: float = 0.1
    """Share of episodes that start at rest on the set-point."""


@dataclass(frozen=True, kw_only=True)
class PathRanges:
    """Set-points of `quadrotor-track`: a sum of sinusoids about a centre that jumps now and then."""

    hover: float = 0.2
    """Share of episodes with a resting set-point."""
    figure_eight: float = 0.4
    """Share of episodes with a figure-eight; the rest are random smooth paths."""
    size: tuple[float, float] = (0.3, 1.5)
    """m, half-width of figure-eights and largest excursion of smooth paths."""
    max_speed: float = 2.0
    """m/s, paths are slowed down to stay below it."""
    max_acceleration: float = 3.0
    """m/s², likewise."""
    jump: float = 0.5
    """m, each axis of a jump of the centre within ±."""
    jump_interval: tuple[float, float] = (3.0, 8.0)
    """s between jumps; half of the episodes have none."""


@dataclass(frozen=True, kw_only=True)
class RewardWeights:
    """Reward of a control period: e to the power of minus the sum of the weighted costs below.

    So it lies between 0 and 1, and to stay in the air is never worse than to crash.
    """

    position: float = 1.0
    """Per m of distance from the set-point."""
    linear_velocity: float = 0.1
    """Per m/s of velocity error."""
    angular_velocity: float = 0.02
    """Per rad/s of body rate."""
    yaw: float = 0.2
    """Per rad of heading error."""
    action_change: float = 0.05
    """Per unit of change of the normalized action since the last period (root of the sum of squares)."""


@dataclass(frozen=True, kw_only=True)
class QuadrotorTask:
    """A quadrotor task as data."""

    name: str
    """Task name, e.g. `quadrotor-hover`."""
    robot: str = "crazyflie"
    """Robot description that the nominal parameters come from."""
    control_rate_hz: float = 100.0
    """Rate of the policy, and of integration steps."""
    episode_length: float = 5.0
    """s until a time-out."""
    terms: tuple[TermConfig, ...]
    """Observation of the policy."""
    action: ActionConfig
    """Action of the policy."""
    envelope: Envelope
    """Safety envelope that goes into the bundle."""
    start: StartRanges = StartRanges()
    """Distribution of initial states."""
    path: PathRanges | None = None
    """Distribution of moving set-points; None holds the origin."""
    reward: RewardWeights = RewardWeights()
    """Reward of the batched environment (analytic gradients have a loss of their own)."""
    apg_updates: int = 420
    """Updates of analytic policy gradients that the task needs."""
    failure_distance: float = 3.0
    """m from the set-point at which an episode ends in failure."""
    randomization: tuple[RandomizationTerm, ...] = ()
    """Default domain randomization."""

    @property
    def period(self) -> float:
        """Control period in s."""
        return 1.0 / self.control_rate_hz


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """Moving set-points of N episodes, as data."""

    amplitudes: Tensor
    """Shape (N, M, 3), m."""
    frequencies: Tensor
    """Shape (N, M, 3), Hz."""
    phases: Tensor
    """Shape (N, M, 3), rad."""
    centers: Tensor
    """Shape (N, J, 3), m: the centre before and after each jump."""
    jump_times: Tensor
    """Shape (N, J - 1), s; infinity where there is none."""
    yaw: Tensor
    """Shape (N), rad."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """Everything that one episode carries from one control period to the next, batched over N."""

    state: QuadrotorState
    """True state."""
    previous: Tensor
    """Packed true state (N, 13) one period ago, for delayed measurements."""
    actions: Tensor
    """The last two normalized actions (N, 2, 4), newest first."""
    memory: Memory
    """Memory of the observation terms."""


def setpoint_at(path: Path, time: Tensor) -> QuadrotorSetpoint:
    """Set-points of N episodes at `time` (..., N) s."""
    passed = (time[..., None] >= path.jump_times).sum(-1)
    centers = path.centers.expand(*time.shape, *path.centers.shape[1:])
    index = passed[..., None, None].expand(*passed.shape, 1, 3)
    center = torch.gather(centers, -2, index)[..., 0, :]
    return setpoints.smooth_path(
        time,
        center=center,
        amplitudes=path.amplitudes,
        frequencies=path.frequencies,
        phases=path.phases,
        yaw=path.yaw.expand(time.shape),
    )


def draw_path(ranges: PathRanges | None, count: int, generator: torch.Generator) -> Path:
    """Draw the set-points of `count` episodes; without ranges they hold the origin."""
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, device=device)

    if ranges is None:
        zero = torch.zeros(count, 1, 3, device=device)
        return Path(
            amplitudes=zero,
            frequencies=zero,
            phases=zero,
            centers=zero,
            jump_times=zero[:, :0, 0],
            yaw=torch.zeros(count, device=device),
        )
    size = uniform(*ranges.size)[:, None]
    # Random smooth paths: two sinusoids per axis. A figure-eight is a special case of it.
    amplitudes = uniform(-1.0, 1.0, 2, 3) * size[:, None]
    cycles = uniform(0.3, 1.0, 2, 3)
    phases = uniform(-torch.pi, torch.pi, 2, 3)
    eight_amplitudes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]], device=device) * size[:, None]
    eight_cycles = torch.tensor([[1.0] * 3, [2.0] * 3], device=device).expand_as(cycles)
    eight_phases = torch.tensor([[0.5 * torch.pi] * 3, [torch.pi] * 3], device=device).expand_as(phases)
    kind = uniform(0.0, 1.0)[:, None, None]
    eight = kind < ranges.hover + ranges.figure_eight
    amplitudes = torch.where(eight, eight_amplitudes, amplitudes)
    amplitudes = torch.where(kind < ranges.hover, torch.zeros_like(amplitudes), amplitudes)
    cycles = torch.where(eight, eight_cycles, cycles)
    phases = torch.where(eight, eight_phases, phases)
    # The base frequency is the highest one that keeps speed and acceleration within limits, times a share.
    speed = (amplitudes * 2.0 * torch.pi * cycles).abs().sum(1).norm(dim=-1).clamp(min=1e-6)
    acceleration = (amplitudes * (2.0 * torch.pi * cycles) ** 2).abs().sum(1).norm(dim=-1).clamp(min=1e-6)
    base = torch.minimum(ranges.max_speed / speed, torch.sqrt(ranges.max_acceleration / acceleration))
    base = base.clamp(max=0.5) * uniform(0.4, 1.0)
    jumps = uniform(-ranges.jump, ranges.jump, 3, 3).cumsum(1)
    centers = torch.cat([torch.zeros(count, 1, 3, device=device), jumps], dim=1)
    times = uniform(*ranges.jump_interval, 3).cumsum(1)
    times = torch.where(uniform(0.0, 1.0)[:, None] < 0.5, times, torch.full_like(times, torch.inf))
    return Path(
        amplitudes=amplitudes,
        frequencies=cycles * base[:, None, None],
        phases=phases,
        centers=centers,
        jump_times=times,
        yaw=uniform(-torch.pi, torch.pi),
    )


def draw_start(
    task: QuadrotorTask,
    parameters: QuadrotorParameters,
    setpoint: QuadrotorSetpoint,
    generator: torch.Generator,
) -> Simulation:
    """Draw initial states about a set-point: thrown, tilted, with any rotor speeds up to hover's."""
    count, device, ranges = len(parameters.mass), generator.device, task.start

    def uniform(limit: float, *shape: int) -> Tensor:
        return limit * (2.0 * torch.rand(count, *shape, generator=generator, device=device) - 1.0)

    thrown = (torch.rand(count, 1, generator=generator, device=device) >= ranges.easy).float()
    heading = uniform(torch.pi)
    tilt = 0.5 * ranges.tilt * (uniform(1.0) + 1.0) * thrown[:, 0]
    axis = torch.stack([torch.cos(heading), torch.sin(heading), torch.zeros_like(heading)], dim=-1)
    yaw = rotation.from_yaw(setpoint.yaw + uniform(ranges.yaw) * thrown[:, 0])
    orientation = rotation.multiply(rotation.from_rotation_vector(axis * tilt[:, None]), yaw)
    spin = hover_speed(parameters)[:, None].clamp(max=parameters.max_speed[:, None])
    spread = 0.5 * (uniform(1.0, 4) + 1.0)
    state = QuadrotorState(
        position=setpoint.position + uniform(ranges.position, 3) * thrown,
        orientation=orientation,
        linear_velocity=setpoint.velocity + uniform(ranges.linear_velocity, 3) * thrown,
        angular_velocity=uniform(ranges.angular_velocity, 3) * thrown,
        motor_speeds=spin * torch.where(thrown > 0, spread, torch.ones_like(spread)),
    )
    memory = observations.initial_memory(task.terms, like=state.position)
    start = float(memory["action_history"].flatten()[0]) if memory.get("action_history") is not None else 0.0
    return Simulation(
        state=state,
        previous=pack(state),
        actions=torch.full((count, 2, 4), start, device=device),
        memory=memory,
    )


def observe(
    task: QuadrotorTask, simulation: Simulation, setpoint: QuadrotorSetpoint, loop: LoopModel, white: Tensor
) -> tuple[Tensor, Memory, Tensor]:
    """Observation (N, D) of N vehicles, the memory after it, and the packed true state (N, 13).

    `white` (N, 13) are standard normal samples for the sensors' noise.
    """
    current = pack(simulation.state)
    measured = measure(current, simulation.previous, loop, white)
    observation, memory = observations.observe(task.terms, measured, setpoint, simulation.memory, task.period)
    return observation, memory, current


def advance(
    task: QuadrotorTask,
    simulation: Simulation,
    memory: Memory,
    current: Tensor,
    action: Tensor,
    parameters: QuadrotorParameters,
    loop: LoopModel,
    step: Callable[[QuadrotorState, Tensor, QuadrotorParameters, float], QuadrotorState],
) -> Simulation:
    """Carry a normalized `action` (N, 4) out for one control period, after `observe`."""
    line = torch.cat([action[:, None], simulation.actions], dim=1)
    delayed = (line * loop.action_weights).sum(1)
    command, speeds = actions.to_command(task.action, delayed), simulation.state.motor_speeds
    if not isinstance(command, MotorSpeeds) or speeds is None:
        raise TypeError(f"the rotors take motor_speeds, but the task's action is {task.action.name!r}")
    with torch.no_grad():  # the battery is slow: what it lost in the last period acts in this one
        load = (speeds / parameters.max_speed[:, None]).square().mean(-1)
        parameters = replace(parameters, supply=1.0 - loop.battery_sag * load)
    return Simulation(
        state=step(simulation.state, command.values, parameters, task.period),
        previous=current,
        actions=torch.stack([action, simulation.actions[:, 0]], dim=1),
        memory=observations.record_action(memory, action),
    )


def reward(
    task: QuadrotorTask, simulation: Simulation, setpoint: QuadrotorSetpoint
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reward (N) of what the last action led to, and minus its costs (N) by the names of `RewardWeights`.

    A state that is not finite gets the worst reward, 0.
    """
    state, weights = simulation.state, task.reward
    heading, _ = quadrotor_terms.yaw_error(state, setpoint, {}, period=task.period, limit=torch.pi)
    costs = {
        "position": torch.linalg.vector_norm(state.position - setpoint.position, dim=-1),
        "linear_velocity": torch.linalg.vector_norm(state.linear_velocity - setpoint.velocity, dim=-1),
        "angular_velocity": torch.linalg.vector_norm(state.angular_velocity, dim=-1),
        "yaw": heading[..., 0].abs(),
        "action_change": torch.linalg.vector_norm(simulation.actions.diff(dim=1)[:, 0], dim=-1),
    }
    terms = {name: -getattr(weights, name) * cost for name, cost in costs.items()}
    return torch.exp(torch.stack(list(terms.values())).sum(0)).nan_to_num(nan=0.0), terms


def has_failed(task: QuadrotorTask, simulation: Simulation, setpoint: QuadrotorSetpoint) -> Tensor:
    """Whether (N) vehicles are too far from the set-point, or have a state that is not finite."""
    state = simulation.state
    distance = torch.linalg.vector_norm(state.position - setpoint.position, dim=-1)
    # A sum is finite only if every part is; overflow of finite parts is a failure as well.
    total = pack(state).sum(-1) + (0.0 if state.motor_speeds is None else state.motor_speeds.sum(-1))
    return ~(distance <= task.failure_distance) | ~torch.isfinite(total)


PRIVILEGED_TERMS = (
    TermConfig(name="position_error", parameters={"limit": 4.0}),
    TermConfig(name="linear_velocity_error", parameters={"limit": 10.0, "scale": 0.5}),
    TermConfig(name="up_direction"),
    TermConfig(name="setpoint_acceleration", parameters={"scale": 0.1}),
    TermConfig(name="yaw_error", parameters={"limit": 3.15}),
    TermConfig(name="angular_velocity", parameters={"scale": 0.1}),
)
"""Observation terms that a critic sees of the true state."""


def privileged(
    task: QuadrotorTask,
    simulation: Simulation,
    setpoint: QuadrotorSetpoint,
    parameters: QuadrotorParameters,
    loop: LoopModel,
) -> Tensor:
    """What only a critic may see (N, S): the true state, the true parameters, what is under way.

    Each part is scaled to about 1.
    """
    state = simulation.state
    assert state.motor_speeds is not None
    relative, _ = observations.observe(PRIVILEGED_TERMS, state, setpoint, {}, task.period)
    weight = (parameters.mass * parameters.gravity)[:, None]
    parts = [
        relative,
        state.motor_speeds / parameters.max_speed[:, None],
        simulation.actions.flatten(1),
        simulation.memory.get("position_error_integral", state.position[:, :0]),
        (hover_speed(parameters) / parameters.max_speed)[:, None],
        30.0 * parameters.mass[:, None],
        torch.log(parameters.inertia / 1.5e-5),
        torch.log(parameters.yaw_torque_ratio / 0.01)[:, None],
        10.0 * torch.stack([parameters.rise_time, parameters.fall_time], dim=-1),
        10.0 * parameters.external_force / weight,
        1e4 * parameters.external_torque / weight,
        loop.staleness,
        loop.action_weights[:, :2, 0],
    ]
    return torch.cat(parts, dim=-1)

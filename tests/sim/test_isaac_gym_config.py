import math

import pytest

from sim.isaac_gym import VecTask, make
from sim.isaac_gym_config import read_config

N = 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": {"numEnvs": 2, "clipObservation": 5.0}}, "did you mean 'env.clipObservations'"),
        ({"physic_engine": "physx"}, "did you mean 'physics_engine'"),
        ({"task": {"randomise": True}}, "did you mean 'task.randomize'"),
        ({"sim": {"up_axis": "y"}}, "z up"),
        ({"sim": {"gravity": [0, 0, -1.6]}}, "gravity"),
        ({"sim": {"dt": 0.0166}}, "controlFrequencyInv"),
        ({"env": {"numEnvs": 2, "numObservations": 7}}, "numObservations is 7"),
        ({"env": {"numEnvs": 2, "numAgents": 3}}, "numAgents"),
        ({"env": {"numEnvs": 2, "controlFrequencyInv": 0}}, "at least 1"),
        ({"env": {"numEnvs": 2, "episodeLength": 1}}, "at least 2"),
        ({"env": {}}, "no 'numEnvs'"),
        ({"name": "quadrotor-hovers"}, "did you mean 'quadrotor-hover'"),
    ],
)
def test_a_wrong_configuration_is_refused_in_words(change, message):
    config = {"name": "quadrotor-hover", "env": {"numEnvs": 2}, **change}
    with pytest.raises(ValueError, match=message):
        VecTask(config, "cpu", "cpu", -1, True)


def test_a_configuration_of_isaac_gym_is_read():
    config = {
        "name": "quadrotor-hover",
        "physics_engine": "physx",
        "env": {"numEnvs": 4, "envSpacing": 1.5, "numStates": 0, "clipActions": 1.0, "episodeLength": 101},
        "sim": {"up_axis": "z", "gravity": [0.0, 0.0, -9.81], "substeps": 2, "physx": {"solver_type": 1}},
        "task": {"randomize": False},
    }
    with pytest.warns(UserWarning, match="sim.substeps, sim.physx"):
        task = VecTask(config, "cpu", "cpu", -1, True)
    assert (task.num_envs, task.num_states, task.max_episode_length) == (4, 0, 101)
    assert "states" not in task.step(task.zero_actions())[0]
    assert task.env.terms == ()
    with pytest.warns(UserWarning):
        settings = read_config(config)
    assert (settings.engine, settings.clip_obs) == (None, math.inf)


PARAMS = {
    "frequency": 1,
    "observations": {"range": [0, 0.01], "operation": "additive", "distribution": "gaussian"},
    "actor_params": {
        "panda": {
            "color": True,
            "dof_properties": {"damping": {"range": [0.5, 2.0], "operation": "scaling", "distribution": "loguniform"}},
        }
    },
}


def test_randomization_params_randomize_what_they_say():
    task = {"randomize": True, "randomization_params": PARAMS}
    with pytest.warns(UserWarning, match="color does nothing here"):
        env = make(1, "arm-reach", N, "cpu", "cpu", cfg={"task": task})
    changed = {row["parameter"]: row["effect"] for row in env.env.randomization_table()}
    assert changed == {"observation_offset": "varies", "gain_damping": "varies"}
    env.step(env.zero_actions())
    damping = env.env.view.values["gain_damping"]
    assert len(damping.unique()) >= N
    assert bool(((damping >= 0.5) & (damping <= 2.0)).all())
    values, names, lows, highs = env.get_actor_params_info(PARAMS, 0)
    assert len(values) == len(names) == damping.shape[1]
    assert names[0] == "gain_damping_0"
    assert (lows[0], highs[0]) == (0.5, 2.0)
    assert env.get_actor_params_info({"frequency": 1}, 0) is None


def test_apply_randomizations_acts_once_and_then_only_where_something_changes():
    task = make(3, "arm-reach", N, "cpu", "cpu")
    for _ in range(3):
        task.step(task.zero_actions())
    before = task.env
    with pytest.warns(UserWarning, match="color"):
        task.apply_randomizations(PARAMS)
    assert task.env is not before
    assert not task.first_randomization
    *_, reset, _ = task.step(task.zero_actions())
    assert not reset.any()
    assert task.progress_buf.tolist() == [0] * N
    same = task.env
    task.apply_randomizations(PARAMS)
    assert task.env is same
    wrong = {"actor_params": {"panda": {"dof_properties": {"dampin": {}}}}}
    with pytest.raises(ValueError, match="did you mean 'damping'"):
        task.apply_randomizations(wrong)
    task.actor_params_generator = object()
    with pytest.raises(NotImplementedError, match="actor_params_generator"):
        task.apply_randomizations(PARAMS)
    with pytest.raises(ValueError, match="read for arms"):
        make(3, "quadrotor-hover", N, "cpu", "cpu").apply_randomizations(PARAMS)

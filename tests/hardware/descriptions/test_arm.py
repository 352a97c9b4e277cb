"""Descriptions of arms: complete, sourced, physical, and wrong ones name the field and the joint."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from hardware import dynamics, kinematics
from hardware.descriptions import arm_file, list_descriptions, load_arm, load_description
from policies import rotation
from policies.actions import ACTIONS
from policies.types import ArmState

FOLDER = Path(arm_file.__file__).parent
ARMS = ("panda", "fr3", "ur5e", "xarm7")
SEVEN = [f"joint{k}" for k in range(1, 8)]


def read(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


@pytest.fixture
def write(tmp_path):
    """Write a changed Panda, and a changed hand, to files and give the Panda's path."""

    def change_and_write(change=lambda data: None, change_gripper=lambda data: None):
        data, gripper = read("panda"), read("grippers/panda_hand")
        change(data)
        change_gripper(gripper)
        (tmp_path / "grippers").mkdir(exist_ok=True)
        (tmp_path / "grippers" / "panda_hand.yaml").write_text(yaml.safe_dump(gripper))
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return change_and_write


def segment_distance(a, b):
    """Smallest distance between two segments, by alternating projection (convex, so that it converges)."""
    s, best = 0.5, np.inf
    for _ in range(60):
        point = a[0] + s * (a[1] - a[0])
        t = project(point, b)
        other = b[0] + t * (b[1] - b[0])
        s = project(other, a)
        best = min(best, np.linalg.norm(a[0] + s * (a[1] - a[0]) - other))
    return best


def project(point, segment):
    along = segment[1] - segment[0]
    square = along @ along
    return 0.0 if square == 0.0 else float(np.clip((point - segment[0]) @ along / square, 0.0, 1.0))


def placed_capsules(arm, q):
    """(link, ends (2, 3) in the base frame, radius) of every capsule."""
    positions, orientations = kinematics.link_frames(arm, q)
    flange = positions[-1] + rotation.rotate(orientations[-1], arm.flange_position)
    positions = np.vstack([positions, flange])
    orientations = np.vstack([orientations, rotation.multiply(orientations[-1], arm.flange_orientation)])
    for capsule in arm.capsules:
        turn = orientations[capsule.link]
        ends = [positions[capsule.link] + rotation.rotate(turn, end) for end in (capsule.start, capsule.end)]
        yield capsule.link, np.array(ends), capsule.radius


def test_the_arms_are_listed_and_the_grippers_are_not():
    assert set(ARMS) | {"crazyflie"} <= set(list_descriptions())
    assert "panda_hand" not in list_descriptions()


def test_who_needs_an_arm_gets_one_or_is_told():
    assert load_arm("panda").interface == load_description("panda").interface
    with pytest.raises(ValueError, match="crazyflie is a quadrotor; an arm is needed"):
        load_arm("crazyflie")


def test_the_panda_is_what_it_is():
    panda = load_arm("panda")
    limits = {key: np.array(values) for key, values in panda.interface.limits.items()}
    np.testing.assert_array_equal(limits["velocity"][:, 1], [2.175] * 4 + [2.61] * 3)
    np.testing.assert_array_equal(limits["torque"], [[-87, 87]] * 4 + [[-12, 12]] * 3)
    np.testing.assert_array_equal(limits["torque_rate"][:, 1], [1000] * 7)
    np.testing.assert_array_equal(limits["position"][3], [-3.0718, -0.0698])
    # About 18 kg with base and hand, of which the base, which does not move, weighs 1 to 3.
    assert 16.0 <= panda.link_masses.sum() + panda.gripper.mass <= 18.0
    assert panda.gripper.name == "panda_hand"


def test_the_fr3_has_the_pandas_geometry_and_its_own_limits_and_inertias():
    panda, fr3 = load_arm("panda"), load_arm("fr3")
    assert fr3.interface.name == "fr3"
    np.testing.assert_array_equal(fr3.joint_positions, panda.joint_positions)
    np.testing.assert_array_equal(fr3.joint_orientations, panda.joint_orientations)
    np.testing.assert_array_equal(np.array(fr3.interface.limits["position"])[3], [-3.0421, -0.1518])
    np.testing.assert_array_equal(
        np.array(fr3.interface.limits["velocity"])[:, 1], [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]
    )
    assert fr3.interface.limits["torque"] == panda.interface.limits["torque"]
    assert not np.allclose(fr3.link_masses, panda.link_masses)


def test_every_group_has_a_source(arm):
    for where, source in {**arm.sources, **arm.gripper.sources}.items():
        assert len(source) > 10, where
    expected = {"kinematics", "inertia", "home", "shape", "drive.damping", "drive.friction", "drive.armature"}
    assert expected | {f"limits.{key}" for key in arm.interface.limits} == set(arm.sources)


def test_bodies_could_exist(arm):
    gripper = arm.gripper
    bodies = [*zip(arm.link_masses, arm.link_inertias, strict=True), (gripper.mass, gripper.inertia)]
    for mass, inertia in bodies:
        np.testing.assert_array_equal(inertia, inertia.T)
        principal = np.linalg.eigvalsh(inertia)
        assert mass > 0 and principal[0] > 0
        assert principal[2] <= principal[0] + principal[1]
    # Links of an arm with 0.8 m reach have no arm of inertia beyond it; placeholders (1, 1, 1) do.
    assert all(np.sqrt(np.trace(inertia) / mass) < 0.6 for mass, inertia in bodies)
    assert np.abs(arm.link_centers).max() < 0.3


def test_the_interface_gives_limits_rates_signals_and_commands(arm):
    interface = arm.interface
    assert interface.kind == "arm" and interface.name in ARMS
    assert set(interface.limits) == {"position", "velocity", "acceleration", "jerk", "torque", "torque_rate"}
    for key, limits in interface.limits.items():
        lower, upper = np.array(limits).T
        assert lower.shape == (arm.num_joints,) and (lower < upper).all(), key
        if key != "position":
            np.testing.assert_array_equal(lower, -upper)
    assert min(interface.state_rate_hz, interface.command_rate_hz) > 0
    assert set(interface.signals) <= set(ArmState.__dataclass_fields__)
    assert set(interface.commands) <= set(ACTIONS)


def test_home_points_down_over_the_table(arm):
    lower, upper = np.array(arm.interface.limits["position"]).T
    assert (arm.home > lower).all() and (arm.home < upper).all()
    tool = kinematics.forward_kinematics(arm, arm.home)
    np.testing.assert_allclose(tool.tool_position, [0.47, 0.0, 0.30], atol=1e-4)
    # Half a turn about x: tool z down, tool x forward, tool y to the right, for every arm.
    np.testing.assert_allclose(rotation.to_matrix(tool.tool_orientation), np.diag([1.0, -1.0, -1.0]), atol=2e-4)
    # It can move every way from there, and carries itself with torque to spare.
    assert np.linalg.svd(tool.jacobian, compute_uv=False)[-1] > 0.1
    share = dynamics.gravity_torques(arm, arm.home) / np.array(arm.interface.limits["torque"])[:, 1]
    assert np.abs(share).max() < 0.6


def test_the_shape_is_on_the_links_and_clear_of_itself_at_home(arm):
    capsules = list(placed_capsules(arm, arm.home))
    assert {link for link, _, _ in capsules} == set(range(arm.num_joints + 2))
    assert max(sum(link == other for other, _, _ in capsules) for link, _, _ in capsules) <= 2
    for (i, a, ra), (j, b, rb) in combinations(capsules, 2):
        if abs(i - j) >= 2:
            assert segment_distance(a, b) > ra + rb, f"links {i} and {j}"
    # The base stands on the table and does not reach into it.
    assert min((ends[:, 2] - radius).min() for _, ends, radius in capsules) >= -1e-9


def test_the_shape_hangs_together(arm):
    """Following the chain, each link's capsules touch those of an earlier one: no gap that a person would see."""
    capsules = list(placed_capsules(arm, arm.home))
    for link in range(1, arm.num_joints + 2):
        gaps = [
            segment_distance(a, b) - ra - rb for i, a, ra in capsules if i == link for j, b, rb in capsules if j < link
        ]
        assert min(gaps) < 0.02, f"link {link}"


def test_a_variant_states_only_what_differs(write, tmp_path):
    write(lambda data: data.update(name="mine"))
    path = tmp_path / "variant.yaml"
    path.write_text("base: changed\nname: faster\nlimits: {velocity: {value: [3, 3, 3, 3, 3, 3, 3]}}\n")
    fast, slow = load_arm(path), load_arm("panda")
    assert fast.interface.name == "faster"
    assert fast.interface.limits["velocity"] == ((-3.0, 3.0),) * 7
    assert fast.interface.limits["jerk"] == slow.interface.limits["jerk"]
    path.write_text("base: fr3\nname: variant of a variant\n")
    with pytest.raises(ValueError, match="base is 'fr3', which is a variant of 'panda' itself"):
        load_arm(path)
    path.write_text("base: nobody\n")
    with pytest.raises(FileNotFoundError, match="no robot description 'nobody'"):
        load_arm(path)


def test_an_arm_without_a_gripper(write):
    bare = load_arm(write(lambda data: data.update(gripper=None)))
    assert bare.gripper is None
    flange = kinematics.forward_kinematics(bare, bare.home).tool_position
    tool = kinematics.forward_kinematics(load_arm("panda"), bare.home).tool_position
    np.testing.assert_allclose(np.linalg.norm(tool - flange), 0.1034, atol=1e-9)


def joint(data, name):
    return data["kinematics"]["joints"][name]


def link(data, joint):
    return data["inertia"]["links"][joint]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("limits"), "field 'limits' is missing"),
        (lambda d: d.update(limit={}), "unknown field 'limit'; did you mean 'limits'?"),
        (lambda d: d.update(joints=["a", "a"]), "joints are ['a', 'a']"),
        (lambda d: d["kinematics"]["joints"].pop("joint3"), "kinematics joint 'joint3' is missing"),
        (lambda d: joint(d, "joint3").update(position=[0, 0]), "position of 'joint3' has shape (2,)"),
        (lambda d: joint(d, "joint3").update(orientation=[1, 1, 0, 0]), "orientation of 'joint3' has length 1.41"),
        (lambda d: joint(d, "joint3").update(axis=[0, 0, 2]), "axis of 'joint3' has length 2.0"),
        (
            lambda d: d["kinematics"]["flange"].update(orientation=[0, 0, 0, 0]),
            "orientation of the flange has length 0",
        ),
        (
            lambda d: d["limits"]["position"]["value"].__setitem__(4, [2.0, -2.0]),
            "limits position of 'joint5' is 2.0 to -2.0",
        ),
        (lambda d: d["limits"]["position"].update(value=[[0, 1]]), "limits position has shape (1, 2)"),
        (lambda d: d["limits"]["velocity"]["value"].__setitem__(1, -1.0), "limits velocity of 'joint2' is -1.0"),
        (lambda d: d["limits"]["torque"]["value"].__setitem__(1, 0.0), "limits torque of 'joint2' is 0.0"),
        (lambda d: d["limits"].pop("jerk"), "limit 'jerk' is missing"),
        (lambda d: d["limits"]["jerk"].pop("source"), "limits jerk field 'source' is missing"),
        (lambda d: d["limits"]["jerk"].update(value=[1] * 6), "limits jerk has shape (6,)"),
        (lambda d: d["limits"]["jerk"].update(value="high"), "limits jerk is 'high'; expected numbers"),
        (lambda d: link(d, "joint6").update(mass=0.0), "mass of link of 'joint6' is 0.0"),
        (
            lambda d: link(d, "joint6").update(mass=float("nan")),
            "mass of link of 'joint6' has shape () or is not finite",
        ),
        (
            lambda d: link(d, "joint6").update(moments=[1, 1, 3, 0, 0, 0]),
            "moments of link of 'joint6' have principal values",
        ),
        (
            lambda d: link(d, "joint6").update(moments=[1, 1, 1, 1, 0, 0]),
            "moments of link of 'joint6' have principal values",
        ),
        (lambda d: link(d, "joint6").pop("center"), "link of 'joint6' field 'center' is missing"),
        (
            lambda d: d["home"]["value"].__setitem__(3, 0.0),
            "home of 'joint4' is 0.0, outside its position limits -3.0718 to -0.0698",
        ),
        (lambda d: d["drive"]["damping"]["value"].__setitem__(0, -0.1), "drive damping of 'joint1' is -0.1"),
        (lambda d: d["drive"].pop("armature"), "drive field 'armature' is missing"),
        (lambda d: d["shape"]["capsules"][2].update(radius=0.0), "radius of capsule 2 is 0.0"),
        (lambda d: d["shape"]["capsules"][2].update(link=8), "link of capsule 2 is 8; expected 0 (base) to 7"),
        (lambda d: d["shape"]["capsules"][2].pop("end"), "capsule 2 field 'end' is missing"),
        (
            lambda d: d.update(gripper="claw"),
            "no gripper 'claw'; known grippers: panda_hand, robotiq_2f85, xarm_gripper",
        ),
        (lambda d: d.update(state_rate_hz="often"), "could not convert string to float: 'often'"),
    ],
)
def test_wrong_files_name_the_file_the_field_and_the_joint(write, change, message):
    with pytest.raises(ValueError, match=r"changed\.yaml: .*" + re.escape(message)):
        load_arm(write(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(kind="arm"), "kind is 'arm'; expected 'gripper'"),
        (lambda d: d.pop("max_width"), "gripper field 'max_width' is missing"),
        (
            lambda d: d.update(max_widht=d.pop("max_width")),
            "unknown gripper field 'max_widht'; did you mean 'max_width'?",
        ),
        (lambda d: d["max_width"].update(value=0.0), "max_width is 0.0; it must be positive"),
        (lambda d: d["finger_size"].update(value=[0.01, 0.01]), "finger_size has shape (2,)"),
        (lambda d: d["tool_offset"].pop("source"), "tool_offset field 'source' is missing"),
        (lambda d: d["palm"].update(moments=[1, 1, 3, 0, 0, 0]), "moments of palm have principal values"),
        (lambda d: d["shape"]["capsules"][0].update(radius=-1.0), "radius of capsule 0 is -1.0"),
    ],
)
def test_wrong_grippers_are_named_too(write, change, message):
    with pytest.raises(ValueError, match=r"changed\.yaml: gripper 'panda_hand': .*" + re.escape(message)):
        load_arm(write(change_gripper=change))


def test_a_gripper_that_is_no_mapping(write, tmp_path):
    path = write()
    (tmp_path / "grippers" / "panda_hand.yaml").write_text("- just a list\n")
    with pytest.raises(ValueError, match=r"gripper \['just a list'\]: gripper fields are"):
        load_arm(path)

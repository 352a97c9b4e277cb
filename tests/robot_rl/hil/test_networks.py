"""Networks against what they must equal: torch's distributions, separate networks, plain formulas."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from torch.nn import functional

from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import LOG_STD, Critics, FeatureScaler, HilPolicy, ResidualPolicy, track

LAYOUT = ActionLayout((0, 1, 3), (2,))


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def test_density_equals_that_of_a_transformed_gaussian():
    policy = HilPolicy(4, LAYOUT, (16, 16)).double()
    nn.init.normal_(policy.mean.weight, std=0.3)
    nn.init.normal_(policy.log_std.weight, std=0.3)
    features, noise = torch.randn(200, 4).double(), torch.randn(200, 3).double()
    action, density = policy.sample(features, noise)
    mean, log_std = policy.gaussian(features)
    wanted = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])
    raw = mean + log_std.exp() * noise
    # Beyond this, the inverse of tanh that the reference needs has no digits left.
    fine = raw.abs().max(-1).values < 6.0
    assert fine.sum() > 50
    torch.testing.assert_close(action, torch.tanh(raw))
    torch.testing.assert_close(density[fine], wanted.log_prob(action)[fine], atol=1e-6, rtol=1e-6)


def test_density_is_finite_and_has_gradients_where_tanh_saturates():
    policy = HilPolicy(4, LAYOUT, (16,))
    with torch.no_grad():
        policy.mean.bias.fill_(30.0)
    action, density = policy.sample(torch.randn(8, 4), torch.randn(8, 3))
    density.sum().backward()
    assert torch.isfinite(density).all() and (action == 1.0).any()
    assert torch.isfinite(policy.mean.bias.grad).all()


def test_deviation_keeps_its_bounds():
    policy = HilPolicy(4, LAYOUT, (16,))
    nn.init.normal_(policy.log_std.weight, std=50.0)
    with torch.no_grad():
        _, log_std = policy.gaussian(torch.randn(500, 4))
    assert float(log_std.min()) == pytest.approx(LOG_STD[0], abs=0.01)
    assert float(log_std.max()) == pytest.approx(LOG_STD[1], abs=0.01)


def test_action_is_put_together_in_the_robots_order():
    policy = HilPolicy(4, LAYOUT, (16,))
    found = policy.assemble(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-1.0]]))
    assert found.tolist() == [[1.0, 2.0, -1.0, 3.0]]
    two = HilPolicy(4, ActionLayout((1, 2), (3, 0)), (16,))
    assert two.assemble(torch.tensor([[1.0, 2.0]]), torch.tensor([[8.0, 9.0]])).tolist() == [[9.0, 1.0, 2.0, 8.0]]


def test_exploration_is_around_the_deployed_action():
    policy = HilPolicy(4, LAYOUT, (16,))
    observation = torch.randn(1, 4).expand(4000, 4)
    with torch.no_grad():
        found, mean = policy.explore(observation, torch.Generator().manual_seed(1)), policy(observation[:1])[0]
        _, log_std = policy.gaussian(policy.scaler(observation[:1]))
    assert torch.equal(found[:, 2], mean[2].expand(4000))
    continuous = found[:, [0, 1, 3]]
    assert (continuous.mean(0) - mean[[0, 1, 3]]).abs().max() < 0.02
    assert continuous.std(0).tolist() == pytest.approx(log_std.exp()[0].tolist(), rel=0.3)
    again = policy.explore(observation, torch.Generator().manual_seed(1))
    assert torch.equal(found, again)


def test_gripper_follows_habit_where_values_agree_and_value_where_they_do_not():
    grippers = HilPolicy(4, LAYOUT, (16,)).grippers
    features = torch.randn(1, 4)
    with torch.no_grad():
        for head in (grippers.habit[-1], grippers.value[-1]):
            head.weight.zero_()
            head.bias.zero_()
        grippers.habit[-1].bias.copy_(torch.tensor([0.0, 2.0]))  # the person usually opens
        assert grippers.commands(features).tolist() == [[1.0]]
        grippers.value[-1].bias.copy_(torch.tensor([0.5 * grippers.trust, 0.0]))
        assert grippers.commands(features).tolist() == [[1.0]]
        grippers.value[-1].bias.copy_(torch.tensor([3.0 * grippers.trust, 0.0]))
        assert grippers.commands(features).tolist() == [[-1.0]]


def test_ensemble_equals_separate_networks():
    critics = Critics(5, 3, (16, 8))
    features = torch.randn(20, 5)
    for member in range(3):
        x = features
        layers = list(zip(critics.weights, critics.biases, strict=True))
        for k, (weight, bias) in enumerate(layers):
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            with torch.no_grad():
                linear.weight.copy_(weight[member].T)
                linear.bias.copy_(bias[member, 0])
            x = linear(x)
            if k < len(layers) - 1:
                x = functional.relu(nn.LayerNorm(x.shape[-1], elementwise_affine=False)(x))
        torch.testing.assert_close(critics(features)[member], x[:, 0])


def test_members_are_chosen_and_learn_apart():
    critics = Critics(5, 4, (16,))
    features = torch.randn(7, 5)
    everything = critics(features)
    torch.testing.assert_close(critics(features, torch.tensor([2, 0])), everything[[2, 0]])
    critics(features)[1].sum().backward()
    for parameter in critics.parameters():
        touched = parameter.grad.flatten(1).abs().sum(1) > 0.0
        assert touched.tolist() == [False, True, False, False]
    assert everything.std(0).min() > 0.0, "members begin differently"


def test_scaler_shifts_scales_and_limits():
    scaler = FeatureScaler(3)
    samples = torch.randn(1000, 3) * torch.tensor([2.0, 0.001, 1.0]) + torch.tensor([5.0, 1.0, 0.0])
    assert torch.equal(scaler(samples), samples.clamp(-5.0, 5.0)), "nothing before it is fitted"
    scaler.fit(samples, floor=0.2)
    found = scaler(samples)
    assert found.mean(0).abs().max() < 0.01
    assert found.std(0)[[0, 2]].tolist() == pytest.approx([1.0, 1.0], abs=0.02)
    assert found[:, 1].abs().max() < 0.05, "what hardly moves is not blown up"
    assert scaler(torch.tensor([[1e6, 1.0, 0.0]]))[0, 0] == 5.0


def test_residual_begins_as_its_base_and_is_bounded():
    base = HilPolicy(4, LAYOUT, (16,))
    policy = ResidualPolicy(base, (8,), 0.1)
    observation = torch.randn(100, 4)
    with torch.no_grad():
        assert torch.equal(policy(observation), base(observation))
        policy.head.weight.fill_(100.0)
        changes = (policy(observation) - base(observation)).abs()
    assert 0.05 < changes.max() <= 0.1 + 1e-6
    learning = {name.split(".")[0] for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert learning == {"trunk", "head", "grippers"}
    assert all(parameter.requires_grad for parameter in policy.grippers.parameters())
    assert not any(parameter.requires_grad for parameter in policy.base.parameters())


def test_tracking_moves_by_the_share():
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    wanted = {name: value + 0.1 * (source.state_dict()[name] - value) for name, value in target.state_dict().items()}
    track(target, source, 0.1)
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, wanted[name])

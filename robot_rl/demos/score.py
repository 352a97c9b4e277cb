"""`robot-rl demos score`: how good demonstrations are to learn from, by what they do, whatever they are called.

After Belkhale, Cui and Sadigh, "Data Quality in Imitation Learning" (NeurIPS 2023): a policy imitates well where people
act alike in like states (low *action divergence*), the less so the longer it has to; and it is robust where what
follows from a state and an action varies (high *transition diversity*). Every step is compared with the nearest step of
each of the k nearest other episodes:

    s, a, d = observation, action, change of the observation, each number divided by its deviation over the set
    differs(t) = a_t - median of a over the steps nearest to s_t
    divergence = mean over windows of WINDOW steps, and over numbers, of (mean of differs over the window)²
                 where a step weighs exp(-its squared distance to those steps / the median one of the set)
    diversity(t) = mean over numbers of (d_t - median of d over the steps nearest to (s_t, a_t))²

What counts is the difference between what others do and what a policy learns from this episode, and a policy learns a
mean: noise that is another one in every step averages out, and shows ways back besides (Laskey et al., "DART", CoRL
2017). What stays is what an episode does otherwise again and again, such as a push to one side or hesitation. The
square of a single step's difference is mostly noise; in that of the mean over w steps noise keeps a w-th part and a
habit the whole. Steps where no other episode came near count little: there is nobody to differ from, and whoever begins
in a rare place should be little the worse for it.

Numbers of the observation that repeat earlier actions are left out: with them every action would agree with itself. The
action divergence of an episode is counted once for each of its steps, since errors add up along the way; its transition
diversity is the mean. With z, the number of deviations from the set's mean,

    score = -z(log action divergence) + weight · z(log transition diversity)

A score compares the episodes of one set. It looks neither at success nor at names, nor at what a recorder was told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.demos.configs import ScoreConfig, ScoreSettings
from robot_rl.demos.copying import check_out, write_set
from robot_rl.demos.dataset import choose, one_kind, open_set
from robot_rl.demos.motion import columns_of
from robot_rl.demos.show import complain, print_table
from robot_rl.episodes import Episode
from robot_rl.errors import UserError

Array = NDArray[np.float32]
_LEAST_DEVIATION = 1e-6
_LEAST_DISTANCE = 1e-4  # squared; what is nearer is the same place, but for rounding
WINDOW = 10
"""Steps, one second of most demonstrations, in which a habit shows and noise averages out. Of shorter episodes, all."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What became of one episode."""

    score: float
    """Larger is better; deviations from the mean of the set."""
    action_divergence: float
    """Its number of steps times the mean square, over windows of `WINDOW` steps, of their mean difference to the
    neighbours' actions, in variances of an action."""
    transition_diversity: float
    """Mean square difference to the neighbours' transitions, in variances of a transition."""


def run(config: ScoreConfig) -> int:
    """Print the scores, the worst first, and copy the best where asked for."""
    if (config.keep is None) != (config.out is None):
        raise UserError("--keep and --out go together: which share to copy, and where to")
    if config.keep is not None and not 0.0 < config.keep <= 1.0:
        raise UserError(f"--keep is {config.keep}; expected a share above 0, at most 1")
    if config.out is not None:
        check_out(config.out, config.path)
    data = open_set(config.path)
    demonstrations = choose(data)
    one_kind(demonstrations)
    scores = score_episodes([one.episode for one in demonstrations], config.settings)
    order = sorted(range(len(scores)), key=lambda i: scores[i].score)
    if config.json:
        rows = [{"name": demonstrations[i].name, **asdict(scores[i])} for i in order]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        print_table([{"episode": demonstrations[i].name, **_words(scores[i])} for i in order])
    complain(data)
    if config.out is not None and config.keep is not None:
        count = max(1, round(config.keep * len(order)))
        best = sorted(order[len(order) - count :])
        write_set(config.out, [demonstrations[i] for i in best])
        sys.stderr.write(f"{config.out}: the best {count} of {len(order)} episodes\n")
    return 0


def score_episodes(episodes: Sequence[Episode], settings: ScoreSettings = ScoreSettings()) -> list[Score]:
    """The score of each episode, in order.

    Raises:
        UserError: There are too few episodes, or nothing of them can be compared.
    """
    if len(episodes) < 3:
        raise UserError(f"{len(episodes)} episodes cannot be compared with each other; at least 3 are needed")
    for name, least in (("neighbours", 1), ("most_episodes", 2), ("most_steps", 2)):
        if (value := getattr(settings, name)) < least:
            raise UserError(f"--settings.{name.replace('_', '-')} is {value}; at least {least} is needed")
    measured = columns_of(episodes).measured
    lengths = [len(episode.observations) - 1 for episode in episodes]
    if min(lengths) < 1 or not measured.any():
        raise UserError("an episode has no step with a measured successor; trim the set or leave the episode out")
    chosen = [np.unique(np.linspace(0, n - 1, min(n, settings.most_steps)).round().astype(int)) for n in lengths]
    seen = [(e.observations[:, measured], e.actions, k) for e, k in zip(episodes, chosen, strict=True)]
    states = _normalized([observations[k] for observations, _, k in seen])
    actions = _normalized([done[k] for _, done, k in seen])
    changes = _normalized([observations[k + 1] - observations[k] for observations, _, k in seen])
    borders = np.concatenate([[0], np.cumsum([len(k) for k in chosen])])
    differs, distance = _surprise(states, actions, borders, settings)
    novelty, _ = _surprise(np.concatenate([states, actions], axis=1), changes, borders, settings)
    weights = np.exp(-distance / max(float(np.median(distance)), _LEAST_DISTANCE))
    parts = [slice(begin, end) for begin, end in zip(borders[:-1], borders[1:], strict=True)]
    total = np.array(lengths) * [_habit(differs[part], weights[part]) for part in parts]
    mean = np.array([np.square(novelty[part]).mean() if novelty.size else 0.0 for part in parts])
    score = -_standard(np.log(total + 1e-9)) + settings.weight * _standard(np.log(mean + 1e-9))
    return [
        Score(score=float(s), action_divergence=float(a), transition_diversity=float(d))
        for s, a, d in zip(score, total, mean, strict=True)
    ]


def _normalized(parts: Sequence[NDArray[np.float32]]) -> Array:
    """The rows of all episodes, every number with mean 0 and deviation 1; constant ones are left out."""
    values = np.concatenate(parts)
    deviation = values.std(axis=0)
    varying = deviation > _LEAST_DEVIATION
    return np.asarray((values[:, varying] - values[:, varying].mean(axis=0)) / deviation[varying], np.float32)


def _surprise(
    places: Array, values: Array, borders: NDArray[np.int64], settings: ScoreSettings
) -> tuple[Array, NDArray[np.float64]]:
    """Difference (N, V) of each step's value to the median over the nearest steps of others, and their distance.

    The distance (N,) is the mean square one, over those neighbours.

    Args:
        places: Where steps are compared, (N, P).
        values: What is compared, (N, V).
        borders: First step of each episode, and N.
        settings: How many neighbours.
    """
    count = len(borders) - 1
    chosen = np.unique(np.linspace(0, count - 1, min(count, settings.most_episodes)).round().astype(int))
    squares = np.square(places).sum(axis=1)
    found, remote = np.zeros_like(values), np.zeros(len(places))
    if not values.shape[1]:  # nothing varies
        return found, remote
    for own in range(count):
        mine = slice(borders[own], borders[own + 1])
        others = [other for other in chosen if other != own]
        nearest = np.empty((len(others), borders[own + 1] - borders[own]), np.int64)
        distance = np.empty(nearest.shape, np.float32)
        for row, other in enumerate(others):
            theirs = slice(borders[other], borders[other + 1])
            away = squares[mine, None] + squares[theirs] - 2.0 * places[mine] @ places[theirs].T
            best = away.argmin(axis=1)
            nearest[row], distance[row] = borders[other] + best, away[np.arange(len(best)), best]
        k = min(settings.neighbours, len(others))
        closest = np.argpartition(distance, k - 1, axis=0)[:k]
        found[mine] = values[mine] - np.median(values[np.take_along_axis(nearest, closest, axis=0)], axis=0)
        remote[mine] = np.take_along_axis(distance, closest, axis=0).clip(0.0).mean(axis=0)
    return found, remote


def _habit(differs: Array, weights: NDArray[np.float64]) -> float:
    """Mean square of the weighted mean of the rows (T, V) over each window of them."""
    width = min(WINDOW, len(differs))
    windows = np.lib.stride_tricks.sliding_window_view
    shares = windows(weights + 1e-12, width)
    means = np.einsum("wvt,wt->wv", windows(differs, width, axis=0), shares) / shares.sum(axis=1)[:, None]
    return float(np.average(np.square(means).mean(axis=1), weights=shares.sum(axis=1))) if means.size else 0.0


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = float(values.std())
    return np.zeros_like(values) if deviation < 1e-12 else (values - values.mean()) / deviation


def _words(score: Score) -> dict[str, str]:
    return {
        "score": f"{score.score:+.2f}",
        "action divergence": f"{score.action_divergence:.2f}",
        "transition diversity": f"{score.transition_diversity:.3f}",
    }

"""From records, as they arrive or lie on disk, to the memory that algorithms sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from robot_rl.episodes import Episode, load_episodes
from robot_rl.errors import UserError
from robot_rl.hil.records import Record
from robot_rl.hil.replay import DRIVERS, Replay, Step
from robot_rl.hil.schema import Schema


class Memory:
    """A replay memory and what it has been told."""

    def __init__(self, schema: Schema, capacity: int = 200_000) -> None:
        """Empty, for records of `schema`."""
        self.schema = schema
        self.replay = Replay(schema.observation, schema.action, schema.images, capacity)
        self.demonstrations = 0
        """Successful episodes that a person drove throughout."""
        self.steps = 0
        """Steps of the robot."""
        self._open: tuple[str, int] | None = None

    @property
    def between_episodes(self) -> bool:
        """Whether the newest step ended its episode."""
        return self._open is None

    def take(self, records: Iterable[Record]) -> None:
        """Add steps of the robot, in the order in which they happened."""
        for record in records:
            episode = (record.source, record.episode)
            if self._open not in (None, episode):
                self.replay.finish(None)  # the actor died in an episode
            self._add(record, given=bool(record.info.get("demonstration", 0.0)))
            self._open = None if record.ended else episode
            self.steps += 1

    def take_demonstrations(self, path: Path) -> int:
        """Add recorded episodes as demonstrations; returns how many.

        Raises:
            UserError: One was made with another task, robot or observation.
        """
        episodes = load_episodes(path)
        for episode in episodes:
            for name in ("observation", "action", "task", "robot"):
                theirs, ours = getattr(episode.schema, name), getattr(self.schema, name)
                if theirs != ours:
                    raise UserError(f"demonstrations in {episode.source} have {name} {theirs}; this run has {ours}")
            # Cameras that this run does not look through may have been recorded, too.
            for camera, shape in self.schema.images.items():
                if (theirs := episode.schema.images.get(camera)) != shape:
                    raise UserError(
                        f"demonstrations in {episode.source} have images {camera} {theirs}; this run has {shape}"
                    )
            self._add_episode(episode)
        self.demonstrations += sum(episode.success for episode in episodes)
        return len(episodes)

    def _add(self, record: Record, given: bool) -> None:
        self.replay.add(
            Step(
                observation=record.observation,
                images=record.images,
                action=record.action,
                policy_action=record.policy_action,
                driver=DRIVERS[record.driver],
                reward=record.reward,
                terminated=record.terminated,
                last=record.ended,
            ),
            demonstration=given,
        )
        if record.ended:
            self.replay.finish(record.final_observation, record.final_images)
            self.demonstrations += given and record.success

    def _add_episode(self, episode: Episode) -> None:
        length = len(episode.actions)
        # Read now, once, and let go with the episode.
        seen = {name: episode.images[name] for name in self.schema.images}
        for k in range(length):
            self.replay.add(
                Step(
                    observation=episode.observations[k],
                    images={name: pictures[k] for name, pictures in seen.items()},
                    action=episode.actions[k],
                    policy_action=episode.policy_actions[k],
                    driver=DRIVERS[str(episode.drivers[k])],
                    reward=float(episode.rewards[k]),
                    terminated=bool(episode.terminated[k]),
                    last=k == length - 1,
                ),
                demonstration=True,
            )
        final = episode.observations[length] if episode.has_final else None
        after = {name: pictures[length] for name, pictures in seen.items()} if episode.has_final else {}
        self.replay.finish(final, after)

"""Run by a Python with Minari: its own loader reads a data set; prints what it found as JSON."""

import json
import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
os.environ["MINARI_DATASETS_PATH"] = str(folder.parent)
import minari  # noqa: E402

data = minari.load_dataset(folder.name)
episodes = list(data.iterate_episodes())
first = episodes[0]
pictures = first.observations if isinstance(first.observations, dict) else {}
state = pictures.get("state", first.observations)
print(
    json.dumps(
        {
            "episodes": data.total_episodes,
            "steps": int(data.total_steps),
            "lengths": [[len(e.rewards), len(e.actions)] for e in episodes],
            "observations": [len(state), state[0].tolist()],
            "pictures": {name: list(value.shape) for name, value in pictures.items() if name != "state"},
            "in_space": bool(data.action_space.contains(first.actions[0])),
            "ended": [bool(e.terminations[-1] or e.truncations[-1]) for e in episodes],
            "sampled": len(data.sample_episodes(2)),
        }
    )
)

"""Run by a Python with LeRobot: its own loader reads a data set; prints what it found as JSON."""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
import missing_operators  # noqa: F401
import torch
from lerobot.datasets import lerobot_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset

root, frame = sys.argv[1], int(sys.argv[2])
# Frames of videos are decoded with a library that is not everywhere; the test decodes them itself.
lerobot_dataset.LeRobotDataset._query_videos = lambda self, times, episode: {
    key: torch.tensor(values) for key, values in times.items()
}
fps = json.loads(Path(root, "meta", "info.json").read_text())["fps"]
deltas = {"observation.state": [-1 / fps, 0.0], "action": [0.0, 1 / fps, 2 / fps]}
data = LeRobotDataset("local/test", root=root, delta_timestamps=deltas, video_backend="pyav")
loader = torch.utils.data.DataLoader(data, batch_size=16)
batch = next(iter(loader))
item = data[frame]
last = data[data.meta.episodes[0]["dataset_to_index"] - 1]
print(
    json.dumps(
        {
            "frames": len(data),
            "episodes": data.num_episodes,
            "task": item["task"],
            "state": item["observation.state"].tolist(),
            "action": item["action"].tolist(),
            "is_pad_at_the_end": last["action_is_pad"].tolist(),
            "wall_time_ns": item["wall_time_ns"].item(),
            "observed_at": item["observed_at"].item(),
            "intervention": item["intervention"].item(),
            "batch": list(batch["action"].shape),
            "mean": data.meta.stats["observation.state"]["mean"].tolist(),
            "picture_mean": {k: data.meta.stats[k]["mean"].shape for k in data.meta.video_keys},
            "video_time": {k: item[k].tolist() for k in data.meta.video_keys},
        }
    )
)

"""LeRobotDataset v3.0, written as its loader reads it: Parquet, MP4 and JSON, without LeRobot.

    meta/info.json, meta/stats.json, meta/tasks.parquet, meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet                      a row per step, episodes one behind the other
    videos/observation.images.<camera>/chunk-000/file-000.mp4

`timestamp` is the frame number over fps, as the loader demands; the true times are in columns of their own:
`observed_at` and `acted_at` (s since the first measurement of the episode) and `wall_time_ns` (Unix time of the
measurement; whole numbers, since the loader makes float32 of others). `intervention` says of every step whether a
person drove.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from policies.writing import whole_folder
from robot_rl.demos.configs import ConvertConfig
from robot_rl.demos.dataset import Demonstration
from robot_rl.demos.lerobot_stats import episode_stats, merge_stats, picture_stats
from robot_rl.demos.video import VideoWriter
from robot_rl.episodes import Episode

FILES_PER_CHUNK = 1000
DATA_BYTES = 100 << 20
"""A data file that is larger is followed by another."""
VIDEO_BYTES = 200 << 20
"""The same of a video."""
_PATH = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_TYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "bool": np.bool_}


def write(demonstrations: Sequence[Demonstration], config: ConvertConfig) -> int:
    """Write the data set into `config.out`, whole or not at all.

    Returns:
        How many steps it has.
    """
    with whole_folder(config.out) as fresh:
        writer = _Writer(fresh, demonstrations[0].episode, config)
        try:
            for one in demonstrations:
                writer.add(one.episode)
        finally:
            writer.close()
        writer.write_meta(config.instruction or demonstrations[0].episode.schema.task)
    return writer.frames


class _Writer:
    """Adds one episode behind the other."""

    def __init__(self, folder: Path, first: Episode, config: ConvertConfig) -> None:
        self.folder, self.schema, self.codec = folder, first.schema, config.codec
        self.task = config.instruction or first.schema.task
        self.fps = Fraction(first.schema.control_rate_hz).limit_denominator(1001)
        self.features = _features(first)
        self.columns = [name for name, feature in self.features.items() if feature["dtype"] != "video"]
        self.frames = 0
        self.rows: list[dict[str, Any]] = []
        self.stats: list[dict[str, dict[str, np.ndarray]]] = []
        self._data: Any = None
        self._data_file = -1
        self._videos: dict[str, VideoWriter] = {}
        self._video_files: dict[str, int] = {}

    def add(self, episode: Episode) -> None:
        """Write the steps and pictures of an episode."""
        number, count = len(self.rows), len(episode)
        values = _values(episode, number, self.frames, float(self.fps))
        self._write_rows(values)
        stats = {name: episode_stats(values[name]) for name in self.columns}
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [self.task],
            "length": count,
            "data/chunk_index": self._data_file // FILES_PER_CHUNK,
            "data/file_index": self._data_file % FILES_PER_CHUNK,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + count,
        }
        for camera in sorted(self.schema.images):
            pictures = episode.images[camera][:count]
            row |= self._write_video(camera, pictures)
            stats[f"observation.images.{camera}"] = picture_stats(pictures)
        for name, parts in stats.items():
            row |= {f"stats/{name}/{key}": value.tolist() for key, value in parts.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self.rows.append(row)
        self.stats.append(stats)
        self.frames += count

    def _write_rows(self, values: dict[str, np.ndarray]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _arrow_schema({name: self.features[name] for name in self.columns})
        arrays = [_arrow_array(values[field.name], field.type) for field in schema]
        if self._data is None or Path(self._data.where).stat().st_size > DATA_BYTES:
            if self._data is not None:
                self._data.close()
            self._data_file += 1
            path = self.folder / "data" / f"{_place(self._data_file)}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(str(path), schema, compression="snappy")
        self._data.write_table(pa.Table.from_arrays(arrays, schema=schema))

    def _write_video(self, camera: str, pictures: np.ndarray) -> dict[str, Any]:
        key = f"observation.images.{camera}"
        writer = self._videos.get(camera)
        if writer is None or writer.size > VIDEO_BYTES:
            if writer is not None:
                writer.close()
            self._video_files[camera] = self._video_files.get(camera, -1) + 1
            path = self.folder / "videos" / key / f"{_place(self._video_files[camera])}.mp4"
            writer = self._videos[camera] = VideoWriter(path, self.fps, pictures.shape[1:3], self.codec)
        first = writer.frames
        writer.write(pictures)
        self.features[key]["info"] = _video_info(self.schema.images[camera], writer, self.codec, self.fps)
        return {
            f"videos/{key}/chunk_index": self._video_files[camera] // FILES_PER_CHUNK,
            f"videos/{key}/file_index": self._video_files[camera] % FILES_PER_CHUNK,
            f"videos/{key}/from_timestamp": float(first / self.fps),
            f"videos/{key}/to_timestamp": float(writer.frames / self.fps),
        }

    def close(self) -> None:
        """Write what is still open to its end."""
        if self._data is not None:
            self._data.close()
        for writer in self._videos.values():
            writer.close()

    def write_meta(self, task: str) -> None:
        """Write what describes the data: last, when there is something to describe."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = self.folder / "meta"
        path = meta / "episodes" / f"{_place(0)}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self.rows), path)
        pq.write_table(_tasks_table(task), meta / "tasks.parquet")
        info = {
            "codebase_version": "v3.0",
            "robot_type": self.schema.robot,
            "total_episodes": len(self.rows),
            "total_frames": self.frames,
            "total_tasks": 1,
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": DATA_BYTES >> 20,
            "video_files_size_in_mb": VIDEO_BYTES >> 20,
            "fps": int(self.fps) if self.fps.denominator == 1 else float(self.fps),
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": f"data/{_PATH}.parquet",
            "video_path": f"videos/{{video_key}}/{_PATH}.mp4" if self.schema.images else None,
            "features": self.features,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n")
        stats = {n: {k: v.tolist() for k, v in parts.items()} for n, parts in merge_stats(self.stats).items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=4) + "\n")


def _features(episode: Episode) -> dict[str, dict[str, Any]]:
    def feature(kind: str, *shape: int, names: list[str] | None = None) -> dict[str, Any]:
        return {"dtype": kind, "shape": list(shape) or [1], "names": names}

    schema = episode.schema
    return {
        "observation.state": feature("float32", schema.observation),
        "action": feature("float32", schema.action),
        "policy_action": feature("float32", schema.action),
        "intervention": feature("bool"),
        "next.reward": feature("float32"),
        "next.done": feature("bool"),
        "next.success": feature("bool"),
        "observed_at": feature("float64"),
        "acted_at": feature("float64"),
        "wall_time_ns": feature("int64"),
        **{
            f"observation.images.{camera}": feature("video", *shape, names=["height", "width", "channels"])
            for camera, shape in sorted(schema.images.items())
        },
        "timestamp": feature("float32"),
        **{name: feature("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
    }


def _values(episode: Episode, number: int, first: int, fps: float) -> dict[str, np.ndarray]:
    count = len(episode)
    frames, since = np.arange(count), episode.observed_at - episode.observed_at[0]
    done = episode.terminated | episode.truncated
    return {
        "observation.state": episode.observations[:count],
        "action": episode.actions,
        "policy_action": episode.policy_actions,
        "intervention": episode.drivers == "person",
        "next.reward": episode.rewards.astype(np.float32),
        "next.done": done,
        "next.success": done & episode.success,
        "observed_at": since,
        "acted_at": episode.acted_at - episode.observed_at[0],
        "wall_time_ns": round(1e9 * episode.wall_time) + np.round(1e9 * since).astype(np.int64),
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(count, number),
        "index": first + frames,
        "task_index": np.zeros(count, np.int64),
    }


def _place(number: int) -> str:
    return _PATH.format(chunk_index=number // FILES_PER_CHUNK, file_index=number % FILES_PER_CHUNK)


def _arrow_schema(features: dict[str, dict[str, Any]]) -> Any:
    """Columns, with the description that Hugging Face's `datasets` looks for."""
    import pyarrow as pa

    fields, described = [], {}
    for name, feature in features.items():
        kind, size = pa.from_numpy_dtype(_TYPES[feature["dtype"]]), feature["shape"][0]
        value = {"dtype": feature["dtype"], "_type": "Value"}
        scalar = feature["shape"] == [1] and name not in ("observation.state", "action", "policy_action")
        fields.append((name, kind if scalar else pa.list_(kind, size)))
        described[name] = value if scalar else {"feature": value, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def _arrow_array(values: np.ndarray, kind: Any) -> Any:
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values, kind)
    flat = pa.array(np.ascontiguousarray(values).ravel(), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _tasks_table(task: str) -> Any:
    """One row a task; the text is what pandas takes for the index."""
    import pyarrow as pa

    index = "__index_level_0__"
    kinds = [("task_index", "task_index", "int64", "int64"), (None, index, "unicode", "object")]
    columns = [
        {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
        for name, field, kind, dtype in kinds
    ]
    pandas = {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    table = pa.table({"task_index": pa.array([0], pa.int64()), index: pa.array([task], pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _video_info(shape: tuple[int, int, int], writer: VideoWriter, codec: str, fps: Fraction) -> dict[str, Any]:
    return {
        "video.height": shape[0],
        "video.width": shape[1],
        "video.codec": codec,
        "video.pix_fmt": writer.pixel_format,
        "video.is_depth_map": False,
        "video.fps": int(fps) if fps.denominator == 1 else float(fps),
        "video.channels": 3,
        "has_audio": False,
    }

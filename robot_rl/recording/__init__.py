"""Recordings: episodes in MCAP files that a crash does not cost, and reading them with true times."""

from robot_rl.recording.align import Aligned, Column, align
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.file import WriterSettings
from robot_rl.recording.reader import Recording, load_recording
from robot_rl.recording.stream import Stream
from robot_rl.recording.writer import EpisodeSummary, EpisodeWriter

__all__ = [
    "Aligned", "Column", "EpisodeSummary", "EpisodeWriter", "Recording", "RecordingError", "Stream", "WriterSettings",
    "align", "load_recording",
]  # fmt: skip

"""`robot-rl demos`: data sets of demonstrations, one subcommand per use, each imported only when it is called."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import tyro

from robot_rl.demos import configs
from robot_rl.errors import require_packages

DemosConfig = (
    Annotated[configs.CollectConfig, tyro.conf.subcommand("collect", prefix_name=False)]
    | Annotated[configs.ListConfig, tyro.conf.subcommand("list", prefix_name=False)]
    | Annotated[configs.ShowConfig, tyro.conf.subcommand("show", prefix_name=False)]
    | Annotated[configs.CheckConfig, tyro.conf.subcommand("check", prefix_name=False)]
    | Annotated[configs.RepairConfig, tyro.conf.subcommand("repair", prefix_name=False)]
    | Annotated[configs.AlignConfig, tyro.conf.subcommand("align", prefix_name=False)]
    | Annotated[configs.TrimConfig, tyro.conf.subcommand("trim", prefix_name=False)]
    | Annotated[configs.MergeConfig, tyro.conf.subcommand("merge", prefix_name=False)]
    | Annotated[configs.SplitConfig, tyro.conf.subcommand("split", prefix_name=False)]
    | Annotated[configs.ConvertConfig, tyro.conf.subcommand("convert", prefix_name=False)]
    | Annotated[configs.ReplayConfig, tyro.conf.subcommand("replay", prefix_name=False)]
    | Annotated[configs.ScoreConfig, tyro.conf.subcommand("score", prefix_name=False)]
)
"""What `robot-rl demos` takes."""

_SIMULATION = ("sim", ("torch", "gymnasium", "mujoco"))
_FORMATS = {"lerobot": ("pyarrow", "av"), "robomimic": ("h5py",), "gymnasium": ("h5py",)}
_FUNCTIONS: dict[type, str] = {
    configs.CollectConfig: "collect:run",
    configs.ListConfig: "show:run_list",
    configs.ShowConfig: "show:run_show",
    configs.CheckConfig: "check:run",
    configs.RepairConfig: "repair:run",
    configs.AlignConfig: "aligning:run",
    configs.TrimConfig: "edit:run_trim",
    configs.MergeConfig: "edit:run_merge",
    configs.SplitConfig: "edit:run_split",
    configs.ConvertConfig: "convert:run",
    configs.ReplayConfig: "replay:run",
    configs.ScoreConfig: "score:run",
}


def run(config: Any) -> int:
    """Do as the command line asks for."""
    module, function = _FUNCTIONS[type(config)].split(":")
    if isinstance(config, configs.ConvertConfig):
        require_packages(f"robot-rl demos convert --to {config.to}", "demos", _FORMATS[config.to])
    elif isinstance(config, configs.ShowConfig) and config.plots is not None:
        require_packages("robot-rl demos show --plots", "demos", ("matplotlib",))
    elif isinstance(config, configs.CollectConfig):
        require_packages("robot-rl demos collect", *_SIMULATION)
    elif isinstance(config, configs.ReplayConfig) and not (config.ros or config.plane):
        require_packages("robot-rl demos replay", *_SIMULATION)
    return int(getattr(importlib.import_module(f"robot_rl.demos.{module}"), function)(config))

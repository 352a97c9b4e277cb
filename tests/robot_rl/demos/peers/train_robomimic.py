"""Run by a Python with robomimic: its BC trainer makes some steps on a file; prints the losses as JSON."""

import json
import sys

import missing_operators  # noqa: F401
import robomimic.utils.file_utils as file_utils
import robomimic.utils.obs_utils as obs_utils
import robomimic.utils.train_utils as train_utils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory

path, cameras = sys.argv[1], sys.argv[2:]
config = config_factory(algo_name="bc")
with config.values_unlocked():
    config.train.data = path
    config.train.hdf5_filter_key = "train"
    config.train.batch_size = 32
    config.train.cuda = False
    config.experiment.validate = False
    config.observation.modalities.obs.low_dim = ["state"]
    config.observation.modalities.obs.rgb = [f"{camera}_image" for camera in cameras]
    config.algo.optim_params.policy.learning_rate.initial = 1e-3
config.lock()
obs_utils.initialize_obs_utils_with_config(config)
shapes = file_utils.get_shape_metadata_from_dataset(path, all_obs_keys=config.all_obs_keys)
model = algo_factory(
    algo_name="bc",
    config=config,
    obs_key_shapes=shapes["all_shapes"],
    ac_dim=shapes["ac_dim"],
    device=torch.device("cpu"),
)
train, _ = train_utils.load_data_for_training(config, obs_keys=shapes["all_obs_keys"])
loader = torch.utils.data.DataLoader(train, batch_size=32, shuffle=True, drop_last=True)
model.set_train()
losses = []
for epoch in range(3):
    log = train_utils.run_epoch(model=model, data_loader=loader, epoch=epoch, num_steps=10)
    losses.append(float(log["Loss"]))
meta = file_utils.get_env_metadata_from_dataset(path)
print(json.dumps({"losses": losses, "env_name": meta["env_name"], "type": meta["type"], "demos": train.n_demos}))

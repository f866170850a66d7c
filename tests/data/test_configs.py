import inspect
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from headstart.config.schema import SPACE

CONF = Path(__file__).parents[2] / "conf"
FILES = [
    *(f"data/{name}" for name in ("openmoji", "image_folder", "image_csv", "image_shards")),
    *(
        f"augmentation/{name}"
        for name in ("none", "light", "trivial_augment", "rand_augment", "mixup_cutmix", "standard")
    ),
]


@pytest.mark.parametrize("name", FILES)
def test_config_lists_every_setting_of_its_constructor_with_its_default(name):
    node = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    node.pop(SPACE, None)  # is no setting of a run
    module, _, kind = node.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), kind)).parameters
    assert list(node) == list(parameters)
    for key, value in node.items():
        default = parameters[key].default
        if value != "???" and key not in ("views", "size", "shifts"):
            assert value == default, key


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_explained(name):
    lines = (CONF / f"{name}.yaml").read_text().partition(f"\n{SPACE}:")[0].splitlines()
    assert all("# " in line for line in lines if not line.startswith("_target_"))

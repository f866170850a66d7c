"""What the jobs of a comparison ask their launcher for: each what its kind of run needs."""

import json
import threading
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from headstart.errors import InputError
from headstart.sweep import resources
from headstart.sweep.resources import Resources, asking, at_once, told

PLUGINS = "hydra_plugins.hydra_submitit_launcher.submitit_launcher."


@dataclass
class Slurm:
    """The fields of SLURM's launcher that matter here."""

    _target_: str = f"{PLUGINS}SlurmLauncher"
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: int | None = None
    partition: str | None = None


@dataclass
class Ray:
    _target_: str = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
    ray: dict[str, Any] = field(default_factory=lambda: {"init": {}, "remote": {"num_gpus": 1}})


def config(launcher: Any, table: Any = None) -> Any:
    sweeper = {"resources": table}
    found = OmegaConf.create({"hydra": {"launcher": OmegaConf.structured(launcher), "sweeper": sweeper}})
    OmegaConf.set_struct(found, True)
    return found


def asked_by(launcher: Any, table: Any = None) -> Resources:
    options = {"strategy": ["fine_tune", "lora", "feature_extraction"], "backbone": ["resnet18", "vit_small"]}
    return Resources(config(launcher, table), cast(Any, SimpleNamespace(get_group_options=options.get)))


def job(strategy: str = "fine_tune", accelerator: str = "auto", backbone: str = "resnet18") -> Any:
    cfg = {"choices": {"strategy": strategy, "backbone": backbone}, "trainer": {"accelerator": accelerator}}
    return SimpleNamespace(cfg=OmegaConf.create(cfg), is_probe=strategy == "feature_extraction")


def asks(found: Resources, *words: str) -> dict[str, Any]:
    text = found.of(job(*words))
    return json.loads(text) if text else {}


def test_runs_ask_for_what_their_kinds_say_and_the_later_kind_counts():
    table = {
        "heads": {"partition": "cpu", "gpus_per_node": 0},
        "strategy": {"lora": {"mem_gb": 32, "cpus_per_task": 4}},
        "backbone": {"vit_small": {"mem_gb": 64}},
    }
    found = asked_by(Slurm(gpus_per_node=1, partition="gpu"), table)
    assert asks(found, "feature_extraction") == {"partition": "cpu", "gpus_per_node": 0}
    assert asks(found, "lora") == {"mem_gb": 32, "cpus_per_task": 4}
    assert asks(found, "lora", "auto", "vit_small") == {"mem_gb": 64, "cpus_per_task": 4}
    assert asks(found, "fine_tune") == {}
    assert told(found.of(job("feature_extraction"))) == "gpus_per_node=0 partition=cpu"


def test_a_launcher_is_given_what_is_asked_over_what_it_has():
    before = config(Slurm(gpus_per_node=1, mem_gb=8, partition="gpu"))
    after = asking(before, json.dumps({"gpus_per_node": None, "partition": "cpu"})).hydra.launcher
    assert (after.gpus_per_node, after.mem_gb, after.partition) == (None, 8, "cpu")
    assert before.hydra.launcher.partition == "gpu"
    assert asking(before, "") is before
    ray = asking(config(Ray()), json.dumps({"ray.remote.num_gpus": 0, "ray.remote.num_cpus": 0.5}))
    assert ray.hydra.launcher.ray.remote == {"num_gpus": 0, "num_cpus": 0.5}


@pytest.mark.parametrize(("are_kept", "expected"), [(True, 0), (False, None)])
def test_heads_on_kept_features_ask_for_no_gpu(are_kept: bool, expected: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resources, "are_kept", lambda _: are_kept)
    assert asks(asked_by(Ray()), "feature_extraction").get("ray.remote.num_gpus") == expected
    assert asks(asked_by(Ray()), "feature_extraction", "gpu") == {}
    assert asks(asked_by(Ray()), "fine_tune") == {}
    assert asks(asked_by(Ray()), "fine_tune", "cpu") == {"ray.remote.num_gpus": 0}
    slurm = {"gpus_per_node": None} if are_kept else {}
    assert asks(asked_by(Slurm(gpus_per_node=2)), "feature_extraction") == slurm
    # a queue that someone chose for GPUs may take no job without one
    assert asks(asked_by(Slurm(gpus_per_node=2, partition="gpu")), "feature_extraction") == {}
    assert asks(asked_by(Ray(), {"heads": {}}), "feature_extraction") == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"probes": {}}, "Unknown kind of run in hydra.sweeper.resources 'probes'"),
        ({"strategy": {"lorra": {}}}, "Did you mean lora"),
        ({"heads": 3}, "resources.heads must hold settings by name, but is 3"),
        ("heads", "must hold fields of a launcher by kind of run"),
        ({"heads": {"setup": "rm -r"}}, "Unknown resource in hydra.sweeper.resources.heads 'setup'"),
        ({"heads": {"n_jobs": 2}}, "'n_jobs'"),
        ({"heads": {"gpus_per_node": -1}}, "heads.gpus_per_node must be at least 0, but is -1"),
        ({"heads": {"gpus_per_node": "many"}}, "heads.gpus_per_node must be a whole number, but is 'many'"),
        ({"heads": {"partition": "a\nb"}}, "heads.partition must be one line of printable characters"),
        (
            {"strategy": {"lora": {"ray": {"remote": {"num_gpus": 1}}}}},
            "strategy.lora.ray.remote.num_gpus is no field of hydra/launcher=submitit_slurm",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_refused(table: Any, message: str):
    with pytest.raises(InputError) as refused:
        asked_by(Slurm(), table)
    assert message in str(refused.value)
    assert len(refused.value.messages) == 1


def test_what_ray_cannot_be_asked_for_is_refused():
    table = {"heads": {"ray": {"remote": {"num_gpus": "one"}}, "partition": "cpu"}}
    with pytest.raises(InputError, match=r"num_gpus must be a number, but is 'one'\.\n.*partition is no field of"):
        asked_by(Ray(), table)


def test_a_run_on_a_gpu_is_not_left_without_one():
    found = asked_by(Slurm(gpus_per_node=1), {"heads": {"gpus_per_node": 0}})
    assert asks(found, "feature_extraction", "auto") == {"gpus_per_node": 0}
    with pytest.raises(InputError, match=r"must give a GPU to a run on one.*trainer\.accelerator=gpu"):
        found.of(job("feature_extraction", "gpu"))


def test_launchers_of_one_machine_say_that_they_give_nothing(caplog: pytest.LogCaptureFixture):
    @dataclass
    class Basic:
        _target_: str = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

    found = asked_by(Basic(), {"heads": {"gpus_per_node": 0}})
    found.say_if_idle()
    assert asks(found, "feature_extraction") == {}
    assert "hydra.sweeper.resources does nothing: jobs of hydra/launcher=basic" in caplog.text


def test_launches_are_under_way_at_the_same_time():
    together = threading.Barrier(3, timeout=20)

    def launch(number: int) -> int:
        together.wait()
        return number

    assert at_once([partial(launch, number) for number in range(3)]) == [0, 1, 2]


def test_a_launch_that_fails_is_told_when_all_have_ended():
    ended = threading.Event()

    def fail() -> None:
        raise OSError("the disk is full")

    def go_on() -> None:
        ended.wait(0.2)
        ended.set()

    with pytest.raises(OSError, match="the disk is full"):
        at_once([fail, go_on])
    assert ended.is_set()

"""A corpus of hostile configs: each is refused by one message, and nothing of it is run, written, imported or told."""

import os
import pickle
import sys
import time
from itertools import cycle
from pathlib import Path

import pytest

from headstart.cli import main

SECRET = "c4n4ry"
COPY = "_target_: headstart.result.shutil.copyfile, src: /etc/hostname, dst: canary"
MODES = (
    ["train"],
    ["train", "-m"],
    ["train", "-m", "--dry-run"],
    ["plan"],
    ["plan", "--json"],
    ["train", "--cfg", "job"],
    ["train", "--cfg", "all", "--resolve"],
    ["train", "--info", "defaults"],
    ["train", "--info", "config"],
    ["train", "--help"],
)
"""Ways to act on a config; each case is tried in several."""


@pytest.fixture(autouse=True)
def home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person stands who was given a config: with a secret, and a package that tells when it is imported."""
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    package = at_home / "installed" / "canary_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(at_home / 'canary')!r}, 'w').close()\n")
    (package / "evil.yaml").write_text("seed: 1\n")
    monkeypatch.syspath_prepend(package.parent)
    with (at_home / "run.pickle").open("wb") as file:
        pickle.dump(Bomb(), file)
    return at_home


class Bomb:
    def __reduce__(self):
        return os.system, ("touch canary",)


SHORT = ["strategy=feature_extraction", "data.size=32", "trainer.max_epochs=1", "trainer.limit_batches=1"]
"""In case a test fails and something is run."""


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about hostile words, having made sure that they had no other effect."""
    before, environment, began = sorted(Path().rglob("*")), dict(os.environ), time.process_time()
    capsys.readouterr()
    assert main([*words, *SHORT]) == 2, words
    assert time.process_time() - began < 5
    assert sorted(Path().rglob("*")) == before
    assert dict(os.environ) == environment
    assert "canary_package" not in sys.modules
    shown, said = capsys.readouterr()
    assert "Traceback" not in said
    assert SECRET not in shown + said
    assert said.startswith("headstart: ")
    return said


TYPED = [
    (["+hydra.callbacks.x._target_=headstart.result.shutil.copyfile"], "hydra.callbacks cannot be set"),
    ([f"+hydra.callbacks.x={{{COPY}}}"], "hydra.callbacks cannot be set"),
    (["++hydra.callbacks.x._target_=headstart.assembly.torch.load"], "hydra.callbacks cannot be set"),
    (["hydra/callbacks=x"], "hydra.callbacks cannot be set"),
    (["+logger@hydra.callbacks.x=none"], "hydra.callbacks cannot be set"),
    (["+trainer@hydra.job=default"], "hydra.job cannot be set"),
    (["hydra/job_logging=stdout"], "hydra.job_logging cannot be set"),
    (["hydra/hydra_logging=default"], "hydra.hydra_logging cannot be set"),
    (["+hydra.job_logging.handlers.x={class: logging.FileHandler, filename: canary}"], "job_logging cannot be set"),
    (["hydra.hydra_logging.root.level=DEBUG"], "hydra.hydra_logging cannot be set"),
    (["+hydra.job.env_set.HEADSTART_ALLOW=os"], "hydra.job cannot be set"),
    (["+hydra.job.env_set.GIT_CONFIG_COUNT='1'"], "hydra.job cannot be set"),
    (["hydra.job.env_copy=[SECRET_TOKEN]"], "hydra.job cannot be set"),
    (["hydra.job.env_copy=[NOT_THERE]"], "hydra.job cannot be set"),
    (["hydra.searchpath=[pkg://canary_package]"], "hydra.searchpath cannot be set"),
    (["++hydra.searchpath=['pkg://canary_package']"], "hydra.searchpath cannot be set"),
    (["--config-path", "pkg://canary_package"], "Unknown option '--config-path'"),
    (["--config-path=conf"], "Unknown option '--config-path'"),
    (["-cp", "pkg://canary_package"], "Unknown option '-cp'"),
    (["--experimental-rerun", "run.pickle"], "Unknown option '--experimental-rerun'"),
    (["--config-dir", "pkg://canary_package"], "must be a folder"),
    (["--config-name", "../installed/canary_package/evil"], ""),
    (["hydra.output_subdir=../../x"], "hydra.output_subdir cannot be set"),
    (["hydra.job.chdir=true"], "hydra.job cannot be set"),
    (["hydra.job.name=../x"], "hydra.job cannot be set"),
    (["hydra.help.template=x"], "hydra.help cannot be set"),
    (["hydra.sweep.subdir=../../x"], "hydra.sweep.subdir cannot be set"),
    (["hydra.mode=MULTIRUN"], "hydra.mode cannot be set"),
    (["hydra.runtime.output_dir=/tmp"], "hydra.runtime cannot be set"),
    (["hydra.overrides.task=['seed=1']"], "hydra.overrides cannot be set"),
    (["+hydra.anything=1"], "hydra.anything cannot be set"),
    (["~hydra.launcher"], "not be deleted"),
    (["~hydra.sweeper.runs"], "not be deleted"),
    (["hydra/sweeper=basic"], "hydra.sweeper cannot be set"),
    (["+hydra.sweeper._target_=headstart.result.shutil.rmtree"], "hydra.sweeper._target_ cannot be set"),
    ([f"hydra.sweeper={{{COPY}}}"], "hydra.sweeper._target_ cannot be set"),
    (["hydra.sweeper.params=[seed]"], "must hold values by setting"),
    (["hydra.verbose={a: 1}"], "hydra.verbose must be"),
    (["hydra/launcher=ray_aws"], "Unknown hydra/launcher 'ray_aws'"),
    (["hydra.launcher._target_=headstart.assembly.torch.load"], "Unknown hydra/launcher"),
    (["hydra/launcher=joblib", "hydra.launcher._target_=hydra_plugins.canary.Launcher"], "Unknown hydra/launcher"),
    ([f"+hydra.launcher.x={{{COPY}}}"], "hydra.launcher.x._target_ cannot be set"),
    (["+hydra.launcher._args_=[1]"], "hydra.launcher._args_[0] cannot be set"),
    (["+hydra.launcher._partial_=true"], "hydra.launcher._partial_ cannot be set"),
    (["hydra/launcher=ray", f"+hydra.launcher.ray.init.x={{{COPY}}}"], "ray.init.x._target_ cannot be set"),
    (
        ["hydra/launcher=ray", f"+backbone.arguments={{{COPY}}}", "+hydra.launcher.ray.init.x=${backbone.arguments}"],
        "must name a class in a module",
    ),
    (["hydra/launcher=submitit_slurm", "hydra.launcher.comment='x\ntouch canary'"], "one line of printable"),
    (["hydra/launcher=submitit_slurm", "hydra.launcher.setup=['x\n#SBATCH y']"], "one line of printable"),
    (["name='${oc.create:{a: 1}}'"], "calls ${oc.create:…}"),
    (["logger.project='${oc.decode:\"[1]\"}'"], "calls ${oc.decode:…}"),
    (["data.size='${oc.dict.values:trainer}'"], "calls ${oc.dict.values:…}"),
    (["name='${oc.select:nothing,{a: 1}}'"], "calls ${oc.select:…}"),
    (["name='${hydra:runtime.cwd}'"], "calls ${hydra:…}"),
    (["name='${${logger.project}.create:{a: 1}}'"], "calls ${${logger.project}.create:…}"),
    (["name='${oc.env:X,${oc.decode:y}}'"], "calls ${oc.decode:…}"),
    (["name='a${now:${oc.create:{}}}'"], "calls ${oc.create:…}"),
    (["logger.tags=['${oc.create:[1]}']"], "logger.tags calls ${oc.create:…}"),
    (["hydra.run.dir='${oc.create:[1]}'"], "calls ${oc.create:…}"),
    (["hydra.sweeper.params={seed: '${oc.create:[1]}'}"], "calls ${oc.create:…}"),
    (["seed='${run_id:}'"], "which only hydra.run.dir and hydra.sweep.dir can"),
    (["data._target_=os.system"], "data._target_ must lie in headstart"),
    (["optimizer._target_=torch.load"], "optimizer._target_ must lie in headstart, torch.optim"),
    (["logger._target_=headstart.result.shutil.copyfile"], "there is no module 'headstart.result.shutil'"),
    (["logger._target_=headstart.__main__.main"], "logger._target_ must lie in headstart"),
    (["head._target_=headstart"], "head._target_ must lie in headstart"),
    (["head._target_=torch.optim.AdamW"], "head._target_ must lie in headstart"),
    (["data._target_='${name}'", "name=os.system"], "data._target_ must lie in headstart"),
    (["+strategy.adapter={_target_: subprocess.run, args: [touch, canary]}"], "strategy.adapter._target_ must lie in"),
    (["+data.x=[{_target_: os.system}]"], "data.x[0]._target_ must lie in headstart"),
    (["companions=[../../x]"], "companions[0] is filled in"),
    (["++companions=[abc]"], "companions[0] is filled in"),
    (["choices={strategy: x}"], "choices.strategy is filled in"),
    (["overrides=[x]"], "overrides[0] is filled in"),
]


HOW = ["one", pytest.param("all", marks=pytest.mark.slow)]
TURN = cycle(MODES)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", range(len(TYPED)))
def test_hostile_words_are_refused(home: Path, capsys: pytest.CaptureFixture[str], place: int, how: str):
    words, expected = TYPED[place]
    for mode in MODES if how == "all" else [next(TURN)]:
        assert expected in refused([*mode, *words], capsys), mode


FILES = {
    "callbacks": ("hydra: {callbacks: {x: {COPY}}}", "hydra.callbacks cannot be set"),
    "sympify": ("hydra: {callbacks: {x: {_target_: sympy.sympify, a: 'x'}}}", "hydra.callbacks cannot be set"),
    "hydra_null": ("hydra: null", "hydra cannot be set"),
    "hydra_reference": ("hydra: ${data}", "hydra"),
    "handler": (
        "hydra: {job_logging: {handlers: {x: {class: logging.FileHandler, filename: canary}}}}",
        "hydra.job_logging cannot be set",
    ),
    "factory": (
        "hydra: {hydra_logging: {formatters: {x: {(): headstart.result.Path.touch}}}}",
        "hydra.hydra_logging cannot be set",
    ),
    "env_set": ("hydra: {job: {env_set: {HEADSTART_ALLOW: os}}}", "hydra.job cannot be set"),
    "env_copy": ("hydra: {job: {env_copy: [NOT_THERE]}}", "hydra.job cannot be set"),
    "searchpath": ("hydra: {searchpath: ['pkg://canary_package']}", "searchpath"),
    "output_subdir": ("hydra: {output_subdir: ../../x}", "hydra.output_subdir cannot be set"),
    "overrides": ("hydra: {overrides: {task: [seed=3]}}", "hydra.overrides cannot be set"),
    "choose_logging": ("defaults: [override /hydra/job_logging: stdout]", "hydra/job_logging cannot be chosen"),
    "choose_sweeper": ("defaults: [override /hydra/sweeper: basic]", "hydra/sweeper cannot be chosen"),
    "choose_ray_aws": ("defaults: [override /hydra/launcher: ray_aws]", "Unknown hydra/launcher 'ray_aws'"),
    "relocated": ("defaults: [/logger/none@_global_.hydra.callbacks.x]", "hydra.callbacks cannot be set"),
    "relocated_launcher": ("defaults: [/hydra/launcher/basic@_global_.hydra.callbacks.x]", "hydra/launcher"),
    "relocated_train": ("defaults: [/train@_global_.hydra.callbacks.x]", ""),
    "outside": ("defaults: [/../secret@_global_.backbone.arguments]", "named from the top"),
    "absolute": ("defaults: ['/{home}/secret@_global_.backbone.arguments']", "named from the top"),
    "linked": ("defaults: [/data/linked@_global_.backbone.arguments]", "must lie in"),
    "name_in_defaults": ("defaults: ['/data': '${oc.env:SECRET_TOKEN}']", "SECRET_TOKEN"),
    "secret": ("name: ${oc.env:SECRET_TOKEN}", "reads the environment variable SECRET_TOKEN"),
    "secret_default": ("name: '${oc.env:SECRET_TOKEN,x}'", "reads the environment variable SECRET_TOKEN"),
    "secret_in_list": ("logger: {tags: ['${oc.env:SECRET_TOKEN}']}", "reads the environment variable SECRET_TOKEN"),
    "secret_quoted": ("name: ${oc.env:'SECRET_TOKEN'}", "reads the environment variable 'SECRET_TOKEN'"),
    "secret_named_elsewhere": ("name: ${oc.env:${data.label_column}}", "reads the environment variable ${data"),
    "secret_inside": ("name: a${now:${oc.env:SECRET_TOKEN}}", "reads the environment variable SECRET_TOKEN"),
    "secret_in_params": ("hydra: {sweeper: {params: {name: '${oc.env:SECRET_TOKEN}'}}}", "SECRET_TOKEN"),
    "secret_in_runs": ("hydra: {sweeper: {runs: ['name=${oc.env:SECRET_TOKEN}']}}", "SECRET_TOKEN"),
    "secret_in_run_dir": ("hydra: {run: {dir: 'outputs/${oc.env:SECRET_TOKEN}'}}", "SECRET_TOKEN"),
    "create": ("optimizer: '${oc.create:{_target_: os.system}}'", "calls ${oc.create:…}"),
    "decode": ("logger: '${oc.decode:\"{_target_: os.system}\"}'", "calls ${oc.decode:…}"),
    "create_in_hydra": ("hydra: {launcher: '${oc.create:{_target_: os.system}}'}", "calls ${oc.create:…}"),
    "name": ("name: ../..", "name must be the name of one folder"),
    "name_absolute": ("name: /tmp/x", "name must be the name of one folder"),
    "name_referenced": ("name: ${logger.project}\nlogger: {project: ../../x}", "name must be the name of one folder"),
    "run_dir": ("hydra: {run: {dir: /tmp/x}}", "hydra.run.dir=/tmp/x can be set on the command line alone"),
    "run_dir_up": ("hydra: {run: {dir: 'outputs/../../x'}}", "can be set on the command line alone"),
    "run_dir_here": ("hydra: {run: {dir: x}}", "can be set on the command line alone"),
    "run_dir_home": ("hydra: {run: {dir: '${oc.env:HOME}/x'}}", "can be set on the command line alone"),
    "run_dir_dots": ("hydra: {run: {dir: 'outputs/.${now:%.}/x'}}", "can be set on the command line alone"),
    "run_dir_reference": ("hydra: {run: {dir: 'outputs/${data.root}'}}", "can be set on the command line alone"),
    "run_dir_null": ("hydra: {run: null}", "hydra.run cannot be set"),
    "sweep_dir": ("hydra: {sweep: {dir: ../x}}", "hydra.sweep.dir=../x can be set on the command line alone"),
    "sweep_subdir": ("hydra: {sweep: {subdir: ../x}}", "hydra.sweep.subdir cannot be set"),
    "features": ("features: {root: /tmp/x}", "features.root=/tmp/x can be set on the command line alone"),
    "features_reference": ("features: ${backbone.arguments}", "features must be settings by name"),
    "features_in_params": ("hydra: {sweeper: {params: {features.root: /tmp/x}}}", "command line alone"),
    "features_in_runs": ("hydra: {sweeper: {runs: ['seed=1 +features={root: /tmp/x}']}}", "command line alone"),
    "features_in_zip": ("hydra: {sweeper: {zip: {features.root: '/tmp/x,/tmp/y'}}}", "command line alone"),
    "tracker": ("defaults: [override /logger: mlflow]\nlogger: {tracking_uri: 'http://10.9.8.7/'}", "tracking_uri"),
    "tracker_file": (
        "defaults: [override /logger: mlflow]\nlogger: {tracking_uri: 'sqlite:////tmp/x'}",
        "tracking_uri",
    ),
    "companions": ("companions: [../../x]", "companions[0] is filled in"),
    "choices": ("choices: {strategy: x}", "choices.strategy is filled in"),
    "target": ("data: {_target_: os.system}", "data._target_ must lie in headstart"),
    "target_reference": ("data: {_target_: '${name}'}\nname: os.system", "data._target_ must lie in headstart"),
    "target_deep": ("strategy: {regularizer: {_target_: subprocess.run}}", "regularizer._target_ must lie in"),
    "target_walks": ("logger: {_target_: headstart.result.Path.touch}", "there is no module 'headstart.result.Path'"),
    "hydra_in_params": ("hydra: {sweeper: {params: {hydra.callbacks.x._target_: os.system}}}", "can be set once"),
    "hydra_in_runs": ("hydra: {sweeper: {runs: ['+hydra.callbacks.x={_target_: os.system}']}}", "can be set once"),
    "launcher_in_runs": ("hydra: {sweeper: {runs: ['hydra/launcher=ray_aws']}}", "can be set once"),
    "target_in_params": ("hydra: {sweeper: {params: {data._target_: 'os.system,os.popen'}}}", "must lie in headstart"),
    "companions_in_params": ("hydra: {sweeper: {params: {companions: '[../x]'}}}", "is filled in"),
    "sweeper_target": ("hydra: {sweeper: {_target_: os.system}}", "hydra.sweeper._target_ cannot be set"),
    "sweeper_params": ("hydra: {sweeper: {params: {x: {COPY}}}}", ""),
    "launcher": ("hydra: {launcher: {_target_: os.system}}", "can be set on the command line alone"),
    "launcher_named": ("hydra: {launcher: {n_jobs: {_target_: os.system}}}", "can be set on the command line alone"),
    "slurm_setup": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {setup: [touch canary]}}",
        "hydra.launcher.setup",
    ),
    "slurm_parameters": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {additional_parameters: {wrap: x}}}",
        "hydra.launcher.additional_parameters.wrap can be set on the command line alone",
    ),
    "slurm_srun": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {srun_args: [--prolog=x]}}",
        "hydra.launcher.srun_args",
    ),
    "slurm_line": (
        'defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {comment: "x\\ntouch canary"}}',
        "one line of printable characters",
    ),
    "slurm_reference": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {comment: '${name}'}}",
        "can be set on the command line alone",
    ),
    "slurm_folder": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {submitit_folder: /tmp/x}}",
        "hydra.launcher.submitit_folder can be set on the command line alone",
    ),
    "slurm_type": (
        "defaults: [override /hydra/launcher: submitit_slurm]\nhydra: {launcher: {timeout_min: 'x; touch canary'}}",
        "could not be converted",
    ),
    "joblib_folder": (
        "defaults: [override /hydra/launcher: joblib]\nhydra: {launcher: {temp_folder: /tmp/x}}",
        "hydra.launcher.temp_folder can be set on the command line alone",
    ),
    "ray_environment": (
        "defaults: [override /hydra/launcher: ray]\nhydra: {launcher: {ray: {init: {runtime_env: {pip: [x]}}}}}",
        "hydra.launcher.ray.init.runtime_env.pip can be set on the command line alone",
    ),
    "ray_address": (
        "defaults: [override /hydra/launcher: ray]\nhydra: {launcher: {ray: {init: {address: 'ray://x:1'}}}}",
        "hydra.launcher.ray.init.address can be set on the command line alone",
    ),
    "ray_target": (
        "defaults: [override /hydra/launcher: ray]\nhydra: {launcher: {ray: {remote: {x: {COPY}}}}}",
        "can be set on the command line alone",
    ),
    "path": ("name: !!python/object/apply:pathlib.Path [x]", "name must be a number, a text"),
}
"""An experiment that a stranger sent, and what is said of it."""


@pytest.fixture
def folder(home: Path) -> Path:
    """A stranger's `--config-dir`."""
    (home / "theirs" / "experiment").mkdir(parents=True)
    (home / "theirs" / "data").mkdir()
    (home / "secret.yaml").write_text(f"token: {SECRET}\n")
    (home / "theirs" / "data" / "linked.yaml").symlink_to(home / "secret.yaml")
    return home / "theirs"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", FILES)
def test_hostile_experiments_are_refused(
    home: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
):
    text, expected = FILES[name]
    content = "# @package _global_\n" + text.replace("{home}", str(home)).replace("COPY", COPY)
    (folder / "experiment" / "evil.yaml").write_text(content)
    words = ["--config-dir", str(folder), "experiment=evil"]
    for mode in MODES if how == "all" else [next(TURN)]:
        assert expected in refused([*mode, *words], capsys), mode

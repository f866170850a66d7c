"""A corpus of hostile configs: each is refused by one message, and nothing of it is run, written, imported or told."""

import os
import pickle
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import pytest

from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.config import binding, guard, recorded
from headstart.data.hub import load_splits
from headstart.errors import InputError
from headstart.record import environment
from headstart.record.trackers import Tracker
from headstart.run.prepare import job_config
from pictures import tiny, write_folder

SECRET = "c4n4ry"
COPY = "_target_: headstart.record.directory.shutil.copyfile, src: /etc/hostname, dst: canary"
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


def installed_for(text: str) -> None:
    """Skips a test whose launcher comes with an extra that is not installed."""
    for extra in ("submitit", "ray"):
        if f"{extra}_" in text or f"launcher={extra}" in text or f"launcher: {extra}" in text:
            pytest.importorskip(f"hydra_plugins.hydra_{extra}_launcher", reason=f"launcher {extra} is not installed")


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
    (["+hydra.callbacks.x._target_=headstart.record.directory.shutil.copyfile"], "hydra.callbacks cannot be set"),
    ([f"+hydra.callbacks.x={{{COPY}}}"], "hydra.callbacks cannot be set"),
    (["++hydra.callbacks.x._target_=headstart.run.parts.torch.load"], "hydra.callbacks cannot be set"),
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
    (["+hydra.sweeper._target_=headstart.record.directory.shutil.rmtree"], "hydra.sweeper._target_ cannot be set"),
    ([f"hydra.sweeper={{{COPY}}}"], "hydra.sweeper._target_ cannot be set"),
    (["hydra.sweeper.params=[seed]"], "must hold values by setting"),
    (["hydra.verbose={a: 1}"], "hydra.verbose must be"),
    (["hydra/launcher=ray_aws"], "Unknown hydra/launcher 'ray_aws'"),
    (["hydra.launcher._target_=headstart.run.parts.torch.load"], "Unknown hydra/launcher"),
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
    (
        ["logger._target_=headstart.record.directory.shutil.copyfile"],
        "there is no module 'headstart.record.directory.shutil'",
    ),
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
    installed_for(" ".join(words))
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
        "hydra: {hydra_logging: {formatters: {x: {(): headstart.record.directory.Path.touch}}}}",
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
    "target_walks": (
        "logger: {_target_: headstart.record.directory.Path.touch}",
        "there is no module 'headstart.record.directory.Path'",
    ),
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
        "must be a whole number",
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
    installed_for(text)
    content = "# @package _global_\n" + text.replace("{home}", str(home)).replace("COPY", COPY)
    (folder / "experiment" / "evil.yaml").write_text(content)
    words = ["--config-dir", str(folder), "experiment=evil"]
    for mode in MODES if how == "all" else [next(TURN)]:
        assert expected in refused([*mode, *words], capsys), mode


FOLDERS = {
    "schema.yaml": ("seed: 1", "cannot take the place of our own"),
    "hydra/config.yaml": ("callbacks: {x: {COPY}}", "cannot take the place of our own"),
    "hydra/sweeper/headstart.yaml": (
        "_target_: headstart.record.directory.shutil.rmtree",
        "cannot take the place of our own",
    ),
    "hydra/launcher/basic.yaml": (
        "_target_: headstart.record.directory.shutil.rmtree",
        "can be set on the command line alone",
    ),
    "hydra/launcher/joblib.yaml": ("n_jobs: 1", "can be set on the command line alone"),
}
"""Files of a stranger's folder that would be taken without being asked for."""


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_configs_takes_the_place_of_nothing_of_ours(
    home: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str
):
    text, expected = FOLDERS[name]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text.replace("COPY", COPY))
    chosen = ["hydra/launcher=joblib"] if "joblib" in name else []
    for mode in (next(TURN), next(TURN)):
        assert expected in refused([*mode, "--config-dir", str(folder), *chosen], capsys), mode


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {searchpath: ['pkg://canary_package']}\ndefaults: [train, _self_]",
        "hydra: {callbacks: {x: {COPY}}}\ndefaults: [train, _self_]",
        "seed: 1",
    ],
)
def test_a_first_config_of_a_stranger_is_checked_too(
    home: Path, folder: Path, capsys: pytest.CaptureFixture[str], text: str
):
    (folder / "evil.yaml").write_text(text.replace("COPY", COPY))
    refused([*next(TURN), "--config-dir", str(folder), "--config-name", "evil"], capsys)


def test_completion_imports_nothing(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMP_LINE", "headstart train hydra.searchpath=[pkg://canary_package] trainer.")
    assert main(["-sc", "query=bash"]) == 2
    assert "canary_package" not in sys.modules
    assert not (home / "canary").exists()


def test_a_class_is_taken_only_where_it_is_defined(monkeypatch: pytest.MonkeyPatch):
    assert guard.located("headstart.record.trackers.NoTracker", "logger", Tracker).__name__ == "NoTracker"
    for target, expected in {
        "headstart.record.directory.sweep_of": "must be a Tracker",
        "headstart.record.trackers.log": "must be a Tracker",
        "headstart.cli.tell_tracker.Path": "must be a Tracker",
        "headstart.record.trackers.Missing": "cannot be imported",
        "headstart.record.wandb.WandB.start": "there is no module 'headstart.record.wandb.WandB'",
        "headstart.__main__.main": "must lie in headstart",
        "headstart.record.trackers.__builtins__": "must lie in headstart",
        "headstartx.Tracker": "must lie in headstart",
        "headstart": "must lie in headstart",
        "": "must lie in headstart",
        3: "must lie in headstart",
    }.items():
        with pytest.raises(InputError, match=expected):
            guard.located(target, "logger", Tracker)
    with pytest.raises(InputError, match="where it is defined"):
        guard.located("headstart.cli.tell_tracker.Path", "logger", object)
    monkeypatch.setenv("HEADSTART_ALLOW", "fractions")
    assert guard.located("fractions.Fraction", "logger", object).__name__ == "Fraction"
    with pytest.raises(InputError, match="where it is defined"):
        guard.located("fractions.Decimal", "logger", object)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


def a_record(home: Path, pictures: Path, **changes: str) -> Path:
    """A run's directory as far as its config goes, with some of it written anew."""
    text = recorded.dumped(job_config(compose_config(tiny(pictures))))
    for old, new in changes.values() if changes else ():
        assert old in text
        text = text.replace(old, new, 1)
    (home / "run").mkdir()
    (home / "run" / "config.yaml").write_text(text)
    return home / "run"


def test_a_record_holds_values_and_names_no_places(home: Path, pictures: Path, caplog: pytest.LogCaptureFixture):
    changes = {
        "name": ("name: comparison", "name: '${oc.env:SECRET_TOKEN}'"),
        "companions": ("companions: []", "companions: ['../../x']"),
        "features": ("root: null", "root: /tmp/x"),
        "logger": (
            "_target_: headstart.record.trackers.NoTracker",
            "_target_: headstart.record.mlflow.MLflow\n  tracking_uri: http://10.9.8.7/",
        ),
    }
    cfg = recorded.load(a_record(home, pictures, **changes) / "config.yaml")
    assert cfg.name == "${oc.env:SECRET_TOKEN}"
    assert SECRET not in recorded.dumped(cfg)
    assert cfg.companions == []
    guard.forget_places(cfg)
    assert (cfg.features.root, cfg.logger.tracking_uri) == (None, None)
    assert "features.root=/tmp/x of the record is not used" in caplog.text


@pytest.mark.parametrize(
    "target", ["os.system", "headstart.record.directory.shutil.copyfile", "headstart.record.directory.Path"]
)
def test_a_record_builds_only_parts(home: Path, pictures: Path, target: str):
    changes = {"target": ("_target_: headstart.record.trackers.NoTracker", f"_target_: {target}")}
    with pytest.raises(InputError, match=r"logger\._target_"):
        binding.bind(recorded.load(a_record(home, pictures, **changes) / "config.yaml"))


def test_an_alias_bomb_in_a_record_is_refused(home: Path, pictures: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    directory = a_record(home, pictures, name=("name: comparison", "\n".join([*lines, "name: x"])))
    with pytest.raises(InputError, match="more than"):
        recorded.load(directory / "config.yaml")


LINKED = (None, ".hydra", "log.txt", "checkpoints", "hardest/0.png", "adapter/a/b")
WRITING = (["train"], ["train", "-m"], ["train", "-m", "--dry-run"])


@pytest.mark.parametrize(
    ("inside", "mode"),
    [
        pytest.param(inside, mode, marks=() if one % 3 == other else pytest.mark.slow)
        for one, inside in enumerate(LINKED)
        for other, mode in enumerate(WRITING)
    ],
)
def test_nothing_is_written_through_a_link(
    home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], inside: str | None, mode: list[str]
):
    from headstart.run.prepare import prepare

    words = tiny(pictures, "strategy=feature_extraction", "name=few")
    run_id = prepare(job_config(compose_config(words))).run_id
    parent = home / "outputs" / ("few" if "-m" in mode else "runs")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    link = parent / run_id / (inside or "")
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    before = sorted(home.rglob("*"))
    capsys.readouterr()
    assert main([*mode, *words]) == 2
    assert "is a link to" in capsys.readouterr().err
    assert sorted(home.rglob("*")) == before


def test_git_runs_nothing_of_a_hostile_checkout(home: Path, monkeypatch: pytest.MonkeyPatch):
    place = home / "checkout"
    place.mkdir()

    def git(*words: str) -> None:
        own = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", str(place), *own, *words], check=True, capture_output=True)

    git("init", "-q")
    (place / "file.txt").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "first")
    environment.git.cache_clear()
    clean = environment.git(str(place))
    assert clean["dirty"] is False
    canary = f"touch {home / 'canary'}"
    for name in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        (place / ".git" / "hooks").mkdir(exist_ok=True)
        hook = place / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\n{canary}\n")
        hook.chmod(0o755)
    git("config", "core.fsmonitor", str(place / ".git" / "hooks" / "fsmonitor-watchman"))
    (place / "file.txt").write_text("two\n")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", canary)
    environment.git.cache_clear()
    assert environment.git(str(place)) == {**clean, "dirty": True}
    monkeypatch.delenv("GIT_CONFIG_COUNT")
    (place / ".gitattributes").write_text("*.txt filter=evil\n")
    with (place / ".git" / "config").open("a") as file:
        file.write(f'[filter "evil"]\n\tclean = {canary}; cat\n')
    environment.git.cache_clear()
    assert environment.git(str(place)) == {**clean, "dirty": None}
    assert not (home / "canary").exists()


def test_a_script_beside_data_is_not_run(home: Path, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    place = home / "corpus"
    place.mkdir()
    (place / "corpus.py").write_text(f"open({str(home / 'canary')!r}, 'w').close()\n")
    with pytest.raises(InputError, match="cannot be had"):
        load_splits(str(place), None, None)
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(InputError, match="from version 4 on"):
        load_splits(str(place), None, None)
    assert not (home / "canary").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(__file__).parents[2].glob("conf/experiment/*.yaml")))
def test_our_experiments_are_taken(name: str):
    assert compose_config([f"experiment={name}"]).name == name


@pytest.mark.parametrize(
    "words",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"],
        ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load cuda]"],
        ["hydra/launcher=submitit_slurm", "+hydra.launcher.additional_parameters={mail-user: me}"],
        ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
        ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
        ["hydra.run.dir=/anywhere/${seed}", "hydra.sweep.dir=../there", "features.root=/scratch/x"],
        ["name='${oc.env:SECRET_TOKEN}'", "hydra.verbose=true"],
        ["hydra.verbose=[headstart, hydra]"],
        ["logger=mlflow", "logger.tracking_uri=http://ours/"],
        ["hydra.sweeper.params={seed: '0,1'}", "hydra.sweeper.runs=['strategy=lp_ft unfreeze.epochs=2']"],
        ["hydra.sweep.dir='outputs/${now:%Y}'"],
        ["optimizer._target_=torch.optim.NAdam"],
    ],
)
def test_what_a_person_types_is_taken(words: list[str]):
    installed_for(" ".join(words))
    assert compose_config(words)


def test_what_files_are_for_is_taken(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    installed_for("submitit_slurm")
    (folder / "hydra" / "launcher").mkdir(parents=True)
    (folder / "hydra" / "launcher" / "cluster.yaml").write_text(
        "defaults: [submitit_slurm]\npartition: gpu\ngpus_per_node: 1\nconstraint: a100|h100\n"
    )
    monkeypatch.setenv("HEADSTART_DATA", "/data")
    (folder / "experiment" / "fine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /data: image_folder, override /hydra/launcher: cluster, override /logger: mlflow]\n"
        "name: fine\n"
        "data: {root: '${oc.env:HEADSTART_DATA}/photos'}\n"
        "optimizer: {lr: '${strategy.lr}'}\n"
        "features: {root: outputs/features, budget_gb: 5}\n"
        "logger: {tracking_uri: 'sqlite:///outputs/mine.db'}\n"
        "hydra:\n"
        "  sweep: {dir: 'outputs/papers/${name}-${now:%Y}'}\n"
        "  launcher: {mem_gb: 8}\n"
        "  sweeper: {params: {seed: '0,1', data.size: 32}, runs: [strategy=fine_tune, 'strategy=lp_ft seed=3']}\n"
    )
    cfg = compose_config(["--config-dir", str(folder), "experiment=fine"])
    assert cfg.data.root == "/data/photos"
    assert cfg.hydra.sweep.dir.startswith("outputs/papers/fine-2")
    launcher = cfg.hydra.launcher
    assert (launcher.partition, launcher.mem_gb, launcher.gpus_per_node) == ("gpu", 8, 1)
    assert cfg.hydra.sweeper.params.seed == "0,1"

"""What lets a comparison have thousands of runs: configs read, composed and shown without slow detours."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from headstart.cli.hydra_app import compose_config
from headstart.config import recorded
from headstart.config.composer import Composer
from headstart.errors import InputError
from headstart.run.prepare import job_config, prepare
from pictures import tiny, write_folder


def test_a_stored_config_is_read_as_omegaconf_reads_it(tmp_path: Path):
    values = {"a": 1e-05, "b": 1e-3, "c": "1e-3", "d": None, "e": True, "f": "yes", "g": "2026-01-01", "h": 3, "i": "∞"}
    cfg = OmegaConf.create({"strategy": values, "overrides": ["optimizer.lr=1e-3", "seed=0"], "seed": 3})
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    read = recorded.load(tmp_path / "config.yaml")
    assert OmegaConf.to_container(read.strategy) == values
    assert list(read.overrides) == ["optimizer.lr=1e-3", "seed=0"]
    hand_written = "strategy:\n  a: 1e-3\n  b: 1_000\n  d: 2026-01-01\n"
    (tmp_path / "config.yaml").write_text(hand_written)
    expected = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml").strategy)
    assert OmegaConf.to_container(recorded.load(tmp_path / "config.yaml").strategy) == expected


def test_a_stored_config_cannot_make_objects(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("strategy: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError):
        recorded.load(tmp_path / "config.yaml")


@pytest.mark.parametrize("common", [False, True])
def test_composed_for_many_runs_is_as_composed_for_one(tmp_path: Path, common: bool):
    words = tiny(write_folder(tmp_path / "p", per_class=8), "head=mlp", "optimizer.lr=0.5")
    points = [["strategy=lora", "seed=1"], ["strategy=fine_tune", "seed=2"], ["strategy=fine_tune", "seed=1", "seed=3"]]
    from headstart.cli.hydra_app import _application, get_args_parser

    composer = Composer(_application(get_args_parser().parse_args([])).config_loader, words if common else [])
    for point in points:
        many = prepare(job_config(*composer.compose([*words, *point])))
        alone = prepare(job_config(compose_config([*words, *point])))
        assert many.identity == alone.identity
        assert many.cfg == alone.cfg


def test_seeing_what_is_done_of_a_comparison_needs_no_lightning(tmp_path: Path):
    pictures = write_folder(tmp_path / "pictures", per_class=4)
    words = ["train", "-m", *tiny(pictures, "name=s"), "strategy=fine_tune,partial", "seed=0,1", "--dry-run"]
    code = (
        "import sys; from headstart.cli.main import main; assert main(sys.argv[1:]) == 0; "
        "print(sorted({'pytorch_lightning', 'torchmetrics', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    call = [sys.executable, "-c", code, *words]
    said = subprocess.run(call, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "4 runs, 0 done, 4 to do." in said
    assert said.splitlines()[-1] == "[]"

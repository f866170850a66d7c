"""The cores that a process may use: by affinity and by what its control groups grant."""

import os

import pytest

from headstart.system import cores as module
from headstart.system.cores import cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 cores, 12 of which the process may run on, whose control groups a test fills."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    monkeypatch.setattr(module, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "OWN_GROUPS", tmp_path / "own")

    def fill(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cfs", ".cfs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return fill


def test_without_control_groups_affinity_says_it(machine):
    assert cores() == 12


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 12), ("400000 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("9900000 100000", 12),
     ("", 12), ("some words", 12), ("0 0", 12)],
)  # fmt: skip
def test_a_containers_share_of_time_is_rounded_up(machine, quota, expected):
    machine("0::/\n", cpu_max=quota)
    assert cores() == expected


def test_the_tightest_group_around_the_process_counts(machine):
    machine("0::/slurm/job7/step0\n", slurm__job7__cpu_max="300000 100000", slurm__job7__step0__cpu_max="max 100000")
    assert cores() == 3


def test_older_control_groups_are_understood(machine):
    files = {"cpu,cpuacct__docker__a__cpucfs_quota_us": "250000", "cpu,cpuacct__docker__a__cpucfs_period_us": "100000"}
    machine("4:memory:/elsewhere\n3:cpu,cpuacct:/docker/a\n", **files)
    assert cores() == 3


def test_older_control_groups_without_a_limit_say_minus_one(machine):
    machine("3:cpu:/\n", cpu__cpucfs_quota_us="-1", cpu__cpucfs_period_us="100000")
    assert cores() == 12


def test_a_system_without_affinity_counts_its_cores(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores() == 5


def test_a_group_whose_name_leads_outside_is_not_followed(machine):
    machine("0::/../../etc\n", cpu_max="200000 100000")
    assert cores() == 2

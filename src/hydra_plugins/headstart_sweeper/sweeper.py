"""Hydra's door to `headstart.sweep`: light, since Hydra imports every plugin whenever it starts."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConfig:
    """`hydra.sweeper`: how the runs of a comparison are drawn up and carried out."""

    _target_: str = "hydra_plugins.headstart_sweeper.sweeper.HeadstartSweeper"
    params: Any = None  # dict[str, str], but the command line could not set that
    zip: Any = None
    runs: list[str] = field(default_factory=list)
    dry_run: bool = False
    retry_failed: bool = False


ConfigStore.instance().store(group="hydra/sweeper", name="headstart", node=SweeperConfig, provider="headstart")


class HeadstartSweeper(Sweeper):
    """Composes and checks all runs first, skips what is done, and reads the outcome from the disk.

    Args:
        params: a grid of overrides that an experiment brings, `{strategy: "a,b", seed: "0,1,2"}`.
        zip: overrides that vary together, `{data.n_per_class: "5,10", trainer.max_epochs: "40,20"}`.
        runs: an explicit list of runs, each a line of overrides; every one is combined with the grid.
        dry_run: print what would be done.
        retry_failed: do failed runs again.
    """

    def __init__(self, **options: Any) -> None:
        """The options are read from the config, where they are as they were written."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Carry out the comparison; true if every run of it is completed."""
        from headstart.sweep.sweeper import Sweep

        assert self.hydra_context is not None
        assert self.config is not None
        return Sweep(self.hydra_context, self.task_function, self.config).run(arguments)

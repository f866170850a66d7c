"""A run's record in TensorBoard."""

from collections.abc import Mapping
from typing import Any

from headstart.record.trackers import RunCard, Tracker


class TensorBoard(Tracker):
    """Event files in the run's directory."""

    package = "tensorboard"

    def start(self, card: RunCard) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = card.directory / "tensorboard"
        # an attempt that was cut short is told anew, from its first row on
        again = 0 if any(folder.glob("events.out.tfevents.*")) else None
        self.writer = SummaryWriter(str(folder), purge_step=again)
        self.card = card

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(name, value, epoch)

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        hparams = {k: v for k, v in self.card.config.items() if isinstance(v, (bool, str, float, int))}
        metrics = {f"final/{k}": v for k, v in summary.items() if isinstance(v, (int, float))}
        self.writer.add_hparams(hparams, metrics, run_name=".")
        self.writer.close()

"""A run's record, and a comparison's, in Weights & Biases."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from headstart.record import silence, wandb_settings
from headstart.record.directory import BEST, REPORT, RunDirectory
from headstart.record.trackers import Comparison, RunCard, Tracker

log = logging.getLogger(__name__)


class WandB(Tracker):
    """Weights & Biases: group = the comparison, job type = the strategy, a run's id = the run id.

    What is not given here is what W&B's own environment variables say, and else a default of ours. A run that is
    resumed goes on as the same run. Where the server does not answer, runs are logged offline, to be sent later.

    Args:
        project: The project; `None` for WANDB_PROJECT, or `headstart`.
        entity: User or team; `None` for WANDB_ENTITY, or the one that is logged in.
        offline: Whether nothing is sent; `None` for what WANDB_MODE says, or true.
        group: Name that the runs of a comparison share; `None` for WANDB_RUN_GROUP, or the comparison's own name.
        tags: Tags of every run; none for WANDB_TAGS.
        log_checkpoints: Whether the best checkpoint is kept as an artifact.
    """

    init_seconds = 10.0
    """How long opening a run online may take: with the time to answer, less than a run waits at its end."""

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        offline: bool | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        log_checkpoints: bool = False,
    ) -> None:
        self.project, self.entity, self.offline, self.group, self.tags = project, entity, offline, group, tags
        self.log_checkpoints = log_checkpoints
        self.run: Any = None
        self._online: dict[str, Any] | None = None
        """What the run was opened with, while it is told online and not known to have arrived."""

    def start(self, card: RunCard) -> None:
        self.card = card
        _bound_exit(self.patience)
        job_type, config = wandb_settings.variable("JOB_TYPE") or card.job_type, wandb_settings.nested(card.config)
        name = wandb_settings.variable("NAME") or f"{card.job_type}-{card.run_id}"
        self._open(card.directory, card.run_id, group=card.group, job_type=job_type, name=name, config=config)

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(row), step=epoch, commit=True)  # at once: what waits would replace the summary at the end

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        self.run.summary.update(dict(summary))
        best = RunDirectory(self.card.directory).weights
        if self.log_checkpoints and exit_code == 0 and best is not None:
            self._keep(f"{self.card.job_type}-{self.card.run_id}", "model", {BEST: best}, ["best"])
        self.run.finish(exit_code=exit_code)
        self._online = None

    def compare(self, comparison: Comparison) -> None:
        """One run of job type `comparison` in the group: tables, figures, and the whole report as an artifact."""
        import wandb

        _bound_exit(self.patience)
        name = f"comparison-{comparison.group}"
        self._open(
            comparison.directory,
            wandb_settings.identifier(name),
            group=comparison.group,
            job_type="comparison",
            name=name,
            notes="\n".join(comparison.answer),
        )
        self.run.summary.update({f"runs/{status}": number for status, number in comparison.counts.items()})
        self.run.summary["answer"] = comparison.answer[0] if comparison.answer else ""
        shown: dict[str, Any] = {
            name: wandb.Table(columns=list(sheet.columns), data=[list(row) for row in sheet.rows])
            for name, sheet in comparison.sheets.items()
        }
        for path in comparison.figures:
            page = f'<body style="background: white">{path.read_text(encoding="utf8")}</body>'
            shown[f"figures/{path.stem}"] = wandb.Html(page, inject=False)
        self.run.log(shown)
        files = {path.relative_to(comparison.report).as_posix(): path for path in _files(comparison.report)}
        self._keep(f"{comparison.group}-report", REPORT, files)
        self.run.finish(exit_code=0)

    def rescue(
        self, rows: Sequence[tuple[Mapping[str, float], int]], summary: Mapping[str, Any], exit_code: int
    ) -> str:
        """Log the run offline: what W&B keeps of one that is online is not on the disk until it is told to close it."""
        if self._online is None:
            return ""
        silence.remember(self.card.directory, self._url(), f"W&B did not take a run within {self.patience:g} s")
        wandb_settings.log_offline(self._online, rows, summary, exit_code)
        return f"Send it by: {wandb_settings.sync_command(self.card.directory)}"

    def _open(self, directory: Path, run_id: str, group: str, **shown: Any) -> None:
        """Open the run of this id: online if that is asked for and can be, else offline; what was begun is gone on."""
        import wandb

        place, mode = wandb_settings.folder(directory), self._mode(directory)
        wandb_settings.set_earlier_aside(place, run_id, directory)
        shown["group"] = self.group or wandb_settings.variable("RUN_GROUP") or group
        opening = self._opening(mode, place, run_id, shown)
        self._online = opening if mode == "online" else None
        try:
            self.run = wandb.init(**opening)
        except Exception as error:
            if mode != "online":
                raise
            self._online, reason = None, " ".join(str(error).split())[:200]
            self._tell_silence(directory, f"W&B does not take runs ({reason})")
            self.run = wandb.init(**self._opening("offline", place, run_id, shown))
        wandb_settings.mark(self.run, directory)

    def _mode(self, directory: Path) -> str:
        """As it was asked for, or `offline` where nobody is logged in or the server is silent."""
        import wandb

        mode = wandb_settings.mode(self.offline)
        if mode != "online":
            return mode
        if not (wandb_settings.variable("API_KEY") or wandb.api.api_key):
            log.warning(
                "W&B was to be logged to online, but nobody is logged in: runs are logged offline. Send them by: wandb "
                "login; %s",
                wandb_settings.sync_command(directory),
            )
            return "offline"
        url = self._url()
        what = silence.found(directory, url)
        if what is None and not silence.answers(url, self.answer_seconds):
            what = f"W&B at {url} does not answer within {self.answer_seconds:g} s"
        if what is None:
            return mode
        self._tell_silence(directory, what)
        return "offline"

    def _url(self) -> str:
        import wandb

        return str(wandb.setup().settings.base_url)

    def _tell_silence(self, directory: Path, what: str) -> None:
        silence.remember(directory, self._url(), what)
        command = wandb_settings.sync_command(directory)
        log.warning("%s: runs are logged offline. Send them by: %s", what, command)

    def _opening(self, mode: str, place: Path, run_id: str, shown: Mapping[str, Any]) -> dict[str, Any]:
        """What `wandb.init` is given."""
        return {
            "project": self.project or wandb_settings.variable("PROJECT") or "headstart",
            "entity": self.entity,
            "id": run_id,
            "resume": "allow" if mode == "online" else None,
            "dir": str(place),
            "tags": self.tags or None,
            "mode": mode,
            "reinit": "create_new",  # runs that are trained together are open together
            "settings": {
                "silent": True,
                "console": "off",
                "disable_git": True,
                "x_disable_stats": True,
                "save_code": False,
                "init_timeout": self.init_seconds,
            },
            **shown,
        }

    def _keep(self, name: str, kind: str, files: Mapping[str, Path], aliases: Sequence[str] = ()) -> None:
        """Log files as an artifact, kept beside the run's own so that what is sent later is what was logged."""
        import wandb

        if self.run.disabled:
            return
        artifact = wandb.Artifact(wandb_settings.identifier(name), type=kind)
        folder = Path(self.run.dir).parent / "artifacts" / kind
        for inside, path in files.items():
            copy = folder / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy)  # what we write is replaced whole, never altered
            except OSError:
                shutil.copy2(path, copy)
            artifact.add_file(str(copy), name=inside, policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact, aliases=["latest", *aliases])


@cache
def _bound_exit(patience: float) -> None:
    """Let W&B's own process hold the end of this one for `patience` seconds, at most: its exit hook waits for ever."""

    def wait() -> None:
        threading.main_thread().join()
        time.sleep(patience)
        from wandb.sdk import wandb_setup

        connection: Any = wandb_setup.singleton()._connection
        connection._proc._process.kill()

    threading.Thread(target=wait, name="end of W&B", daemon=True).start()


def _files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, but those half written."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))

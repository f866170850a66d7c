"""Our side: `headstart train` with the settings that follow, and what its fit took."""

import sys

from handed import Task

from headstart.run import experiment  # isort: skip  (after `handed`)
from headstart.cli.main import main


def timed(task: Task) -> None:
    """Time from where model and trainer stand, as on the other side, to where the model is trained."""
    ready, fit = experiment.lightning_trainer, experiment._fit

    def began(*args, **named):
        made = ready(*args, **named)
        task.begin()
        return made

    def ended(*args, **named):
        done = fit(*args, **named)
        task.end()
        return done

    experiment.lightning_trainer, experiment._fit = began, ended


if __name__ == "__main__":
    task = Task()
    timed(task)
    status = main(["train", *sys.argv[3:]])
    task.keep()
    raise SystemExit(status)

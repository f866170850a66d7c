"""A process that trains along as one rank of a run: `python -m headstart.run.rank RUN_DIR RUN_ID`."""

import os
import sys
import threading
from pathlib import Path


def main(directory: Path, run_id: str) -> None:
    """Take part in the run whose config lies in `directory`; what it comes to is the first rank's to keep.

    Raises:
        InputError: if data or weights make another run of it here than `run_id`, which the first rank does.
    """
    from headstart.config import recorded
    from headstart.errors import InputError
    from headstart.record.directory import RunDirectory
    from headstart.run import experiment
    from headstart.run.prepare import prepare

    run = RunDirectory(directory)
    job = prepare(recorded.load(run.config))
    if job.run_id != run_id:
        raise InputError(f"The first process does run {run_id}, but config, data and weights here make {job.run_id}.")
    experiment.follow(job, run)


def end_with_the_first() -> None:
    """End this process when the first rank's does, even by a kill: alone it would wait for the others for ever."""

    def wait() -> None:
        os.read(0, 1)  # nobody writes: it returns when the other end is closed
        os._exit(1)

    threading.Thread(target=wait, name="first rank", daemon=True).start()


if __name__ == "__main__":
    assert "LOCAL_RANK" in os.environ, "the first rank starts the others"
    end_with_the_first()
    main(Path(sys.argv[1]), sys.argv[2])

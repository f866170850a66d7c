"""A process that trains along as one rank of a run on several devices: `python -m headstart.rank RUN_DIR`."""

import os
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Take part in the run whose config lies in `directory`; what it comes to is the first rank's to keep."""
    from headstart import config, experiment
    from headstart.preparation import prepare

    experiment.follow(prepare(config.load(directory)), directory)


if __name__ == "__main__":
    assert "LOCAL_RANK" in os.environ, "the first rank starts the others"
    main(Path(sys.argv[1]))

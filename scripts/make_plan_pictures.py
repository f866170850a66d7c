"""Draws the plan of every strategy as SVG, for docs/strategies.md:

python scripts/make_plan_pictures.py [docs/pictures]
"""

import sys
from pathlib import Path

from headstart.cli.hydra_app import compose_config
from headstart.config.composer import conf_dir
from headstart.run.prepare import draft, job_config
from headstart.strategies.drawing import svg

EPOCHS = 10


def draw(strategy: str) -> str:
    """The plan's picture for the default backbone and 10 epochs."""
    words = [f"strategy={strategy}", f"trainer.max_epochs={EPOCHS}", "backbone.weights=none"]
    drafted = draft(job_config(compose_config(words)))
    parts = drafted.parts
    return svg(drafted.plan, parts.scheduler, parts.rate)


def main(folder: Path) -> None:
    """Write `plan-STRATEGY.svg` for every shipped strategy."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((conf_dir() / "strategy").glob("*.yaml")):
        target = folder / f"plan-{path.stem}.svg"
        target.write_text(draw(path.stem), encoding="utf8")
        print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))

"""Transfer learning compared on your own data: feature extraction, fine-tuning and all between.

`train` trains one run, `load` makes a model of a finished one, `results` makes a table of many; `trials` and
`studies` tell what a search tried. They are imported when they are first asked for: until then nothing else is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.cli.python import train as train
    from headstart.predict.model import load as load
    from headstart.report.frame import results as results
    from headstart.report.history import studies as studies
    from headstart.report.history import trials as trials

__version__ = "0.1.0"
__all__ = ["load", "results", "studies", "train", "trials"]

_PLACES = {
    "load": "headstart.predict.model",
    "results": "headstart.report.frame",
    "studies": "headstart.report.history",
    "train": "headstart.cli.python",
    "trials": "headstart.report.history",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

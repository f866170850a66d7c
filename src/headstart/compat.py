"""Others' imports made to work: torchvision wheels that do not match torch, and timm that imports W&B."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_keep: list[Any] = []
"""Libraries stay registered only while they are referenced."""

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_torchvision_operators() -> None:
    """Make `import torchvision` work beside a torch build that its compiled operators do not fit.

    PyPI's torchvision is a CUDA build. Beside a CPU build of torch its library does not load, and the import dies with
    "operator torchvision::nms does not exist" only because two operators get shapes registered. Declaring them first
    lets transforms, and all that imports torchvision (timm, torchmetrics, pytorch_lightning, peft), work as usual;
    calling `nms` itself still fails, saying that it has no kernel. Where torchvision's own operators load, or it is not
    installed, nothing is done. Call it before anything that imports torchvision; calling it again costs nothing.
    """
    _keep_wandb_out()
    if _keep or "torchvision" in sys.modules or _operators_load():
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _keep.append(library)


def _keep_wandb_out() -> None:
    if not any(isinstance(finder, _TimmWithoutWandb) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmWithoutWandb())


class _TimmWithoutWandb(MetaPathFinder):
    """Imports `timm.utils.summary`, which asks for `wandb`, as if that were not installed.

    Only a tracker's own thread imports it: it takes most of a second, and where it hangs, nothing else must.
    """

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == "timm.utils.summary" else None
        if spec is None or spec.loader is None or "wandb" in sys.modules:
            return None
        load = spec.loader.exec_module

        def load_without(module: ModuleType) -> None:
            sys.modules["wandb"] = None  # type: ignore[assignment]  # which makes an import of it fail
            try:
                load(module)
            finally:
                del sys.modules["wandb"]

        spec.loader.exec_module = load_without  # type: ignore[method-assign]
        return spec


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load (or torchvision is absent, so that nobody asks for them)."""
    from importlib.machinery import EXTENSION_SUFFIXES
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True
    import torch

    folder = Path(next(iter(spec.submodule_search_locations)))
    suffixes = (".pyd", *EXTENSION_SUFFIXES) if sys.platform == "win32" else tuple(EXTENSION_SUFFIXES)
    files = [folder / f"_C{suffix}" for suffix in suffixes if (folder / f"_C{suffix}").exists()]
    if not files:
        return False
    try:
        torch.ops.load_library(str(files[0]))
    except (ImportError, OSError):
        return False
    return hasattr(torch.ops.torchvision, "nms")

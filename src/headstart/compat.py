"""Others' imports made to work, and made short: torchvision beside another torch, timm without W&B and a compiler."""

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
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
    _keep_out()
    if _keep or "torchvision" in sys.modules or _operators_load():
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _keep.append(library)


def _keep_out() -> None:
    if not any(isinstance(finder, _Shortened) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Shortened())


class _Shortened(MetaPathFinder):
    """Imports three modules of timm and torchvision without what they ask for and nothing here needs.

    `timm.utils.summary` asks for `wandb`, and is loaded as if that were not installed: only a tracker's own thread
    imports it, since it takes most of a second, and where it hangs, nothing else must. `torchvision.ops.roi_align` and
    `timm.layers.typing` ask for torch's compiler, which takes longer than all the rest of timm: they get it once they
    use it.
    """

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        load_with = _LOADS.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if load_with else None
        if load_with is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: load_with(load, module)  # type: ignore[method-assign]
        return spec


Load = Callable[[ModuleType], None]


def _without_wandb(load: Load, module: ModuleType) -> None:
    _with_stand_in("wandb", None, load, module)  # which makes an import of it fail


def _without_compiler(load: Load, module: ModuleType) -> None:
    stand_in = ModuleType("torch._dynamo.utils")
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    stand_in.__getattr__ = lambda name: _of_compiler(stand_in, name)  # type: ignore[method-assign]
    _with_stand_in(stand_in.__name__, stand_in, load, module)


def _with_stand_in(name: str, stand_in: ModuleType | None, load: Load, module: ModuleType) -> None:
    if name in sys.modules:
        return load(module)
    sys.modules[name] = stand_in  # type: ignore[assignment]
    try:
        load(module)
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _of_compiler(stand_in: ModuleType, name: str) -> Any:
    """Anything else of what is stood in for, which is imported then; but for what Python itself asks of a module."""
    if name.startswith("__"):
        raise AttributeError(name)
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    return getattr(import_module(stand_in.__name__), name)


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _without_decorator(load: Load, module: ModuleType) -> None:
    load(module)
    if "torch._dynamo" not in sys.modules and hasattr(module, "disable_compiler"):
        module.disable_compiler = _never_compiled  # type: ignore[attr-defined]


def _never_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable`, carried out once there is a compiler."""

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **named)
        import torch

        return torch.compiler.disable(function)(*args, **named)

    return call


_LOADS: dict[str, Callable[[Load, ModuleType], None]] = {
    "timm.utils.summary": _without_wandb,
    "torchvision.ops.roi_align": _without_compiler,
    "timm.layers.typing": _without_decorator,
}


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
    # `_C`, or `_C_stable` since 0.29: operators that are declared here and then loaded there would end the process
    for file in sorted(file for suffix in suffixes for file in folder.glob(f"_C*{suffix}")):
        try:
            torch.ops.load_library(str(file))
        except (ImportError, OSError):
            return False
    return hasattr(torch.ops.torchvision, "nms")

"""Others' imports made to work, and made short: torchvision beside another torch, timm without W&B and a compiler,
torchmetrics without transformers and signal processing."""

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
    """Imports modules of timm, torchvision and torchmetrics without what they ask for and nothing here needs.

    `timm.utils.summary` asks for `wandb`, and is loaded as if that were not installed: only a tracker's own thread
    imports it, since it takes most of a second, and where it hangs, nothing else must. `torchvision.ops.roi_align` and
    `timm.layers.typing` ask for torch's compiler, which takes longer than all the rest of timm: they get it once they
    use it. `torchmetrics` asks for `scipy.signal`, to put back a name that a package of another's misses there, and for
    `transformers`, for one of its scores of texts, which takes a second together: they too come once they are used.
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
    stand_in = _stand_in("torch._dynamo.utils", is_compile_supported=_is_compile_supported)
    _with_stand_in(stand_in.__name__, stand_in, load, module)


def _without_signal(load: Load, module: ModuleType) -> None:
    _with_stand_in("scipy.signal", _stand_in("scipy.signal", hamming=None), load, module)


def _without_transformers(load: Load, module: ModuleType) -> None:
    asked = {name: _Later("transformers", name) for name in ("AutoModel", "AutoTokenizer")}
    _with_stand_in("transformers", _stand_in("transformers", **asked), load, module)


class _Later:
    """A class of a module that is imported when the class is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(import_module(self._module), self._name), name)


def _stand_in(module: str, **known: Any) -> ModuleType:
    """A module that has these names at once, and every other once the real one is imported for it."""
    made = ModuleType(module)
    made.__dict__.update(known)
    made.__getattr__ = lambda name: _of_real(made, name)  # type: ignore[method-assign]
    return made


def _with_stand_in(name: str, stand_in: ModuleType | None, load: Load, module: ModuleType) -> None:
    if name in sys.modules:
        return load(module)
    sys.modules[name] = stand_in  # type: ignore[assignment]
    try:
        load(module)
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _of_real(stand_in: ModuleType, name: str) -> Any:
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
    "torchmetrics": _without_signal,
    "torchmetrics.functional.text.bert": _without_transformers,
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

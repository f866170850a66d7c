import importlib.util
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path

import pytest
import torch

from headstart import compat
from headstart.compat import declare_torchvision_operators


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_torchvision_imports_after_mending_and_mending_again_is_harmless():
    run(
        "from headstart.compat import declare_torchvision_operators as mend\n"
        "mend(); mend()\n"
        "import torch, torchvision.transforms.v2 as v2\n"
        "assert v2.functional.horizontal_flip(torch.arange(3).reshape(1, 1, 3)).tolist() == [[[2, 1, 0]]]\n"
        "mend()"
    )


def test_operators_of_a_torchvision_that_fits_are_left_alone():
    run(
        "import torch\n"
        "from headstart import compat\n"
        "compat._operators_load = lambda: True\n"
        "compat.declare_torchvision_operators()\n"
        "assert not compat._keep and not hasattr(torch.ops.torchvision, 'qnms')"
    )


@pytest.mark.parametrize("name", ["_C", "_C_stable"])
def test_torchvisions_own_operators_are_tried_whatever_their_library_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Declared here and loaded after that, they would end the process."""
    library, asked = tmp_path / f"{name}{EXTENSION_SUFFIXES[-1]}", []
    library.touch()
    spec = ModuleSpec("torchvision", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(torch.ops, "load_library", asked.append)
    compat._operators_load()
    assert asked == [str(library)]


def test_mending_in_a_process_that_has_torchvision_does_nothing():
    declare_torchvision_operators()
    import torchvision.ops

    kept, nms = list(compat._keep), torchvision.ops.nms
    declare_torchvision_operators()
    assert (list(compat._keep), torchvision.ops.nms) == (kept, nms)


def test_timm_does_not_import_wandb_which_may_hang(tmp_path: Path):
    (tmp_path / "wandb.py").write_text("raise SystemExit('wandb was imported')\n")
    run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from headstart.compat import declare_torchvision_operators as mend\n"
        "mend()\n"
        "import timm.utils\n"
        "assert 'wandb' not in sys.modules\n"
        "try:\n"
        "    import wandb\n"
        "except SystemExit:\n"
        "    sys.exit(0)\n"
        "sys.exit('kept out for others too')"
    )


def test_timm_and_torchvision_load_without_torchs_compiler_and_get_it_once_they_use_it():
    run(
        "from headstart.compat import declare_torchvision_operators as mend\n"
        "mend()\n"
        "import sys, timm, torch\n"
        "from torchvision.ops import roi_align\n"
        "model = timm.create_model('naflexvit_base_patch16_gap', embed_dim=32, depth=1, num_heads=2).eval()\n"
        "pictures = torch.randn(2, 3, 32, 32)\n"
        "with torch.no_grad():\n"
        "    alone = model(pictures)\n"
        "    assert 'torch._dynamo' not in sys.modules\n"
        "    assert torch.equal(torch.compile(model, backend='eager')(pictures), alone)\n"
        "assert 'torch._dynamo' in sys.modules\n"
        "from torch._dynamo.utils import is_compile_supported\n"
        "asked = sys.modules['torchvision.ops.roi_align'].is_compile_supported\n"
        "assert asked('cpu') == is_compile_supported('cpu')"
    )


def test_a_torchvision_that_asks_more_of_the_compiler_gets_it_at_once():
    run(
        "from types import ModuleType\n"
        "from headstart import compat\n"
        "def load(module):\n"
        "    from torch._dynamo.utils import counters, is_compile_supported\n"
        "    module.found = counters\n"
        "module = ModuleType('newer')\n"
        "compat._without_compiler(load, module)\n"
        "import torch._dynamo.utils\n"
        "assert module.found is torch._dynamo.utils.counters"
    )


def test_torchmetrics_loads_without_transformers_and_signal_processing_and_gets_them_once_they_are_used():
    run(
        "from headstart.compat import declare_torchvision_operators as mend\n"
        "mend()\n"
        "import sys, torch, torchmetrics\n"
        "assert not {'transformers', 'scipy.signal'} & {*sys.modules}\n"
        "assert torchmetrics.Accuracy('binary')(torch.tensor([1, 0]), torch.tensor([1, 1])) == 0.5\n"
        "from torchmetrics.functional.text import bert\n"
        "try:\n"
        "    bert.AutoTokenizer.from_pretrained('/nowhere/at/all')\n"
        "except OSError:\n"
        "    pass\n"
        "import transformers, scipy.signal\n"
        "from scipy.signal import get_window\n"
        "assert bert.AutoTokenizer.from_pretrained == transformers.AutoTokenizer.from_pretrained\n"
        "assert scipy.signal.get_window is get_window and scipy.signal.__file__ and transformers.__file__\n"
        "assert len(get_window('hann', 8)) == 8"
    )


def test_torchmetrics_is_loaded_as_it_is_where_the_others_are_there_already():
    run(
        "from headstart.compat import declare_torchvision_operators as mend\n"
        "mend()\n"
        "import transformers, scipy.signal\n"
        "import torchmetrics\n"
        "from torchmetrics.functional.text import bert\n"
        "assert bert.AutoModel is transformers.AutoModel"
    )


def test_a_package_that_torchmetrics_asks_for_gets_all_of_what_is_stood_in_for():
    run(
        "from headstart import compat\n"
        "def load(module):\n"
        "    from scipy.signal import firwin, hamming\n"
        "    module.found = firwin\n"
        "from types import ModuleType\n"
        "module = ModuleType('torchmetrics')\n"
        "compat._without_signal(load, module)\n"
        "import scipy.signal\n"
        "assert module.found is scipy.signal.firwin"
    )

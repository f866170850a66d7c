"""Adapters beside LoRA from the command to what others load: trained, repeated, predicted with, exported."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import headstart
from exported import kept
from headstart.cli.main import main
from headstart.export import export as room
from headstart.strategies.peft_methods import METHODS
from pictures import tiny

slow = pytest.mark.slow
WORDS = {"oft": ["strategy.adapter.block_size=4"], "ia3": []}
QUICK = {("vit", "pissa"), ("cnn", "lokr")}
CASES = [
    (family, method) for method in METHODS for family in ("vit", "cnn", "text") if (family, method) != ("cnn", "pissa")
]


def peft(method: str) -> list[str]:
    return ["strategy=peft", f"strategy.adapter.method={method}", *WORDS.get(method, ["strategy.adapter.r=2"])]


def run_of(request: pytest.FixtureRequest, family: str, method: str) -> Path:
    import timm

    if family == "text":
        return request.getfixturevalue("on_texts")("bert", *peft(method))
    place, model = request.getfixturevalue("place"), {"vit": "test_vit", "cnn": "test_efficientnet"}[family]
    path = place / f"{model}.safetensors"
    if not path.exists():
        save_file(timm.create_model(model).state_dict(), path)
    size = {"vit": 160, "cnn": 32}[family]
    words = [f"backbone.model={model}", f"backbone.weights={path}", f"data.size={size}", "optimizer.lr=0.01"]
    pictures = request.getfixturevalue("pictures")
    return request.getfixturevalue("train")(f"{family} {method}", *tiny(pictures, *words, *peft(method)))


@pytest.mark.parametrize(
    ("family", "method"), [pytest.param(*case, marks=[] if case in QUICK else slow) for case in CASES]
)
def test_an_adapted_run_is_repeated_predicts_and_is_exported_merged_and_as_an_adapter(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture, family: str, method: str
):
    run = run_of(request, family, method)
    assert main(["rerun", str(run), "--check"]) == 0
    assert capsys.readouterr().out.strip().endswith("identical")
    if family != "text":
        check_predictions(run, request.getfixturevalue("pictures"))
    for form in ("safetensors", "adapter", "transformers" if family == "text" else "timm"):
        assert room.export(run, form, tmp_path / form).difference < 1e-5
    card = (tmp_path / "adapter" / room.CARD).read_text(encoding="utf8")
    assert (
        f"An adapter ({ {'ia3': '(IA)³'}.get(method, method) })".replace(" ", "").lower()
        in card.replace(" ", "").lower()
    )


def check_predictions(run: Path, pictures: Path) -> None:
    known, model = kept(run), headstart.load(run)
    names = [name for name in known if (pictures / name).is_file()]
    assert names
    for name, answer in zip(names, model.predict([pictures / name for name in names]), strict=True):
        np.testing.assert_allclose(list(answer.all.values()), known[name], rtol=1e-3, atol=5e-4)  # kept in float16

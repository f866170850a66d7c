"""Families × strategies × formats: every export that there can be gives the run's own outputs (run with -s to see)."""

from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart.export import export as room
from pictures import tiny

pytestmark = pytest.mark.slow
STRATEGIES = ("feature_extraction", "fine_tune", "lp_ft", "gradual_unfreeze", "discriminative", "bias_only", "lora")
GRAPHS = ("fine_tune",)
"""Strategies whose weights go into graphs too, which take half a minute each: what differs is the weights alone."""
TEXTS = ("bert", "roberta", "distilbert", "deberta", "gpt2")
SOUNDS = ("wav2vec2", "hubert", "ast", "whisper")
SPECTROGRAM = ["backbone=spectrogram", "backbone.model=test_efficientnet", "backbone.weights=none", "data=audio_folder"]


def words_of(strategy: str, family: str) -> list[str]:
    own = {"lora": ["strategy.adapter.r=2"], "lp_ft": ["unfreeze.epochs=1"]}.get(strategy, [])
    epochs = ["trainer.max_epochs=4"] if strategy in ("lp_ft", "gradual_unfreeze") else []
    return [f"strategy={strategy}", *own, *epochs, *(["backbone.pooling=last"] if family == "gpt2" else [])]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("family", ["test_efficientnet", "test_vit", "test_resnet", *TEXTS, *SOUNDS, "spectrogram"])
def test_every_export_gives_the_runs_outputs(
    request: pytest.FixtureRequest, train, pictures: Path, tmp_path: Path, family: str, strategy: str
):
    words, name = words_of(strategy, family), f"matrix {family} {strategy}"
    if family in TEXTS:
        run = request.getfixturevalue("on_texts")(family, *words)
    elif family in SOUNDS:
        run = request.getfixturevalue("on_sounds")(family, *words)
    elif family == "spectrogram":
        sounds = [f"data.root={request.getfixturevalue('sounds')}", "data.seconds=0.4", "trainer.threads=1"]
        run = train(name, *SPECTROGRAM, *sounds, "trainer.max_epochs=1", "logger=none", *words)
    else:
        size = 160 if family == "test_vit" else 32
        run = train(name, *tiny(pictures, f"backbone.model={family}", f"data.size={size}", *words))
    found = {}
    for form in room.FORMATS:
        if form.name == "onnx" and strategy not in GRAPHS:
            continue
        try:
            found[form.name] = room.export(run, form.name, tmp_path / form.name).difference
        except InputError as refused:
            if "cannot be exported" not in str(refused):
                raise
    told = ", ".join(f"{form} {difference:.1e}" for form, difference in found.items())
    print(f"\nMATRIX | {family} | {strategy} | {told}")
    assert {"safetensors"} <= set(found)
    assert max(found.values()) < 1e-4

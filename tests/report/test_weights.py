"""A comparison of weights is one of contenders, named by as little as tells them apart."""

from headstart.report.reading import Run
from headstart.report.weights import read_weights


def run(content="", words=(), source="", strategy="fine_tune"):
    found = Run("r", None, "s", choices={"strategy": strategy, "backbone": "timm"}, overrides=list(words))
    found.weights, found.weights_content = f"{source} {content}".strip(), content
    return found


def test_files_are_told_apart_by_the_ends_of_their_paths():
    runs = [run("a1", ["backbone.weights=/x/old/best.pth"]), run("b2", ["backbone.weights=/x/new/best.pth"])]
    assert read_weights(runs) == ["old/best.pth", "new/best.pth"]
    runs = [run("a1", ["backbone.weights='/x y/one.pth'"]), run("b2", ["backbone.weights=/z/two.pth"])]
    assert read_weights(runs) == ["one.pth", "two.pth"]


def test_models_of_one_file_are_told_apart_by_their_place():
    words = (
        ["backbone.weights=d.pth", "backbone.weights_key=student"],
        ["backbone.weights=d.pth", "backbone.weights_key=teacher"],
    )
    assert read_weights([run("a1 student.backbone", words[0]), run("a1 teacher.backbone", words[1])]) == [
        "student",
        "teacher",
    ]
    assert read_weights([run("a1", words[0]), run("a1", words[1])]) == ["student", "teacher"]  # as kept earlier


def test_equal_contents_are_one_whatever_they_are_called():
    runs = [run("a1", ["backbone.weights=one.pth"]), run("a1", ["backbone.weights=copy.pth"])]
    assert len(set(read_weights(runs))) == 1


def test_a_file_that_changed_is_told_apart_by_its_contents():
    runs = [run("a1b2c3d4", ["backbone.weights=one.pth"]), run("f6e5d4c3", ["backbone.weights=one.pth"])]
    assert read_weights(runs) == ["one.pth a1b2c3", "one.pth f6e5d4"]


def test_a_run_that_failed_has_the_weights_of_its_like():
    words = ["backbone.weights=one.pth"]
    runs = [
        run("a1", words),
        run("b2", ["backbone.weights=two.pth"]),
        run("", words),
        run("", ["backbone.weights=three.pth"]),
    ]
    assert read_weights(runs) == ["one.pth", "two.pth", "one.pth", "three.pth"]
    assert read_weights([run("a1", []), run("", [])]) == [read_weights([run("a1", [])])[0]] * 2
    assert read_weights([run("", [])]) == ["?"]


def test_pretrained_and_random_weights_are_told_apart():
    runs = [run("a1", source="hub"), run("none", source="none", strategy="from_scratch")]
    assert read_weights(runs) == ["hub", "none"]

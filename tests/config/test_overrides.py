"""Overrides as people type them arrive as they were meant, or are answered with what to type, which then works."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from headstart.cli.hydra_app import _application, compose_config, get_args_parser
from headstart.cli.main import main
from headstart.config.composer import Composer
from headstart.config.explanation import explained
from headstart.config.overrides import in_shell, literal, values, words
from headstart.record.result import as_command, repeat_command
from headstart.run.prepare import job_config

ODD = [
    "my photos, 2024", "café/naïve 日本", "it's", 'a "b" c', "it's a \"b\"", "~/p", "ré", "x#1", "a!b", "(old)", "x[0]",
    "{a}", "a=b=c", "a;b&c|d", "`ls`", "<b>", "C:\\dir (1)\\x", "ends with\\", "\\'", "a\\\"b", " blank ", "$HOME (x)",
    "^", "a,b", "a\nb", ":b: [red]", "100% é", "*?é", "-é",
]  # fmt: skip


def parsed(word: str):
    (override,) = OverridesParser.create().parse_overrides([word])
    return override.value()


def through_bash(text: str) -> str:
    """What a program gets that is given `text` as typed in bash."""
    return subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("text", ODD)
def test_a_text_quoted_for_the_shell_arrives_as_it_is(text: str):
    assert parsed(through_bash(in_shell("data.root", text))) == text
    assert words(f"seed=1 {in_shell('data.root', text)} a=b")[0::2] == ["seed=1", "a=b"]
    assert parsed(words(f"seed=1 {in_shell('data.root', text)} a=b")[1]) == text


@pytest.mark.parametrize("text", ODD)
def test_what_the_grammar_does_not_take_is_answered_with_what_works_when_copied(text: str):
    parser = OverridesParser.create()
    try:
        (taken,) = parser.parse_overrides([f"data.root={text}"])
    except OverrideParseException as error:
        said = str(explained(error, loader=cast(Any, None), overrides=[]))
        assert parsed(through_bash(advice(said))) == text
    else:  # Hydra takes off the blanks around a value, and a backslash before a special character
        assert taken.is_sweep_override() or taken.value() == re.sub(r"\\(?=[\\()\[\]{}:=, \t])", "", text.strip())


def advice(said: str) -> str:
    """The first text that is quoted for a shell."""
    found = re.search(r"write ('(?:[^']|'\"'\"')*')", said)
    assert found, said
    return found[1]


def test_several_values_without_m_are_one_text_when_quoted(at_home: Path, capsys):
    assert main(["train", "data=image_folder", "data.root=my photos, 2024"]) == 2
    said = capsys.readouterr().err
    assert "headstart train -m compares them" in said
    assert parsed(through_bash(advice(said))) == "my photos, 2024"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("data.root=[a", "a list is [A,B]"),
        ("data.root={a: é}", "{NAME: VALUE}"),
        ("data.root=ré,x#y", """train -m and write 'data.root="ré","x#y"'"""),
        ("data.root=${x", "what ${ opens must be closed"),
        ("seed", "settings are KEY=VALUE"),
        ("my key=1", "settings are KEY=VALUE"),
        ("name=${nothing}", "name cannot be worked out: Interpolation key 'nothing' not found"),
        ("seed=${name}", "seed cannot be worked out"),
        ("name=${run_id:}", "which only hydra.run.dir and hydra.sweep.dir can"),
        ("seed=null", "seed must have a value, but is null: leave it out for its default"),
        ("trainer.max_epochs=null", "trainer.max_epochs must have a value"),
        ("optimizer.lr=null", "optimizer.lr must be a valid number, but is null"),
        ("data=null", "Unknown data 'null'. Choices: audio_csv"),
        ("logger=null", "Choices: mlflow, none"),
        ("backbone=1.5", "Unknown backbone '1.5'"),
        ("hydra/launcher=null", "Unknown hydra/launcher 'null'"),
        ("data.shifts.new=x", "write +data.shifts.new=VALUE to add it"),
        ("data.root.x=1", "data.root is one value and has no settings below it"),
        ("seed.x=1", "seed is one value and has no settings below it"),
        ("+seed=1", "write seed=VALUE, without +"),
    ],
)
def test_what_cannot_be_is_said_with_what_can(at_home: Path, capsys, typed: str, expected: str):
    is_for_many = typed.startswith(("name=", "logger", "seed=n", "optimizer"))
    photos = ["backbone.weights=none", "data=image_folder", "data.root=photos"]
    assert main(["train", *["-m"] * is_for_many, *photos, typed]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said
    assert not list(at_home.iterdir())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("strategy=lp_ft  unfreeze.epochs=2 ", ["strategy=lp_ft", "unfreeze.epochs=2"]),
        ("data.root='my photos, 2024/é' seed=1", ["data.root='my photos, 2024/é'", "seed=1"]),
        ('data.root="a=b [c]" seed=1', ['data.root="a=b [c]"', "seed=1"]),
        ("""'data.root="my photos"' seed=1""", ['data.root="my photos"', "seed=1"]),
        ("""data.root='"my photos"' seed=1""", ['data.root="my photos"', "seed=1"]),
        ("strategy.groups=[a, b] +x={a: 1, b: 'c d'}", ["strategy.groups=[a, b]", "+x={a: 1, b: 'c d'}"]),
        ("data.root=my\\ photos seed=1", ["data.root=my\\ photos", "seed=1"]),
        ("data.path=${data.root}/t.csv", ["data.path=${data.root}/t.csv"]),
        ("seed=choice(1, 2)", ["seed=choice(1, 2)"]),
    ],
)
def test_a_line_is_cut_where_a_reader_would(line: str, expected: list[str]):
    assert words(line) == expected


@pytest.mark.parametrize("line", ["data.root=it's", "data.root=[a", "data.root='a"])
def test_a_line_that_is_not_closed_is_no_line(line: str):
    with pytest.raises(ValueError, match="is missing"):
        words(line)


def test_values_stay_as_they_were_typed():
    assert values("1e-3, 0.001,'a,b',[c,d],${seed}") == ["1e-3", "0.001", "'a,b'", "[c,d]", "${seed}"]


@pytest.mark.parametrize("text", ["${seed}", "\\${seed}", "a\\\\${b} ${c", "$", "{}", "\\"])
def test_a_literal_text_is_never_an_interpolation(text: str):
    assert OmegaConf.create(literal({"a": [text]})).a[0] == text


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(_application(get_args_parser().parse_args([])).config_loader)


@pytest.mark.parametrize("typed", ["2024", "2024_01", "007", "1e3", "0x1F", "nan", "true", "12:30", "-1", '"2024"'])
@pytest.mark.parametrize("key", ["data.root", "data.label_column", "backbone.weights", "features.root", "name"])
def test_a_text_that_looks_like_a_number_stays_a_text(composer: Composer, key: str, typed: str):
    cfg = job_config(*composer.compose(["data=image_csv", "data.path=t", f"{key}={typed}"]))
    assert OmegaConf.select(cfg, key) == typed.strip('"')


def test_a_fold_is_a_number_or_the_text_that_was_typed(composer: Composer):
    words = ["data=audio_csv", "data.path=t", "split=kfold"]
    folds = [[*words, f"split.fold={fold}"] for fold in ("1", "01", "1_0", "a")]
    assert [job_config(*composer.compose(line)).split.fold for line in folds] == [1, "01", "1_0", "a"]


def test_a_file_of_settings_may_hold_numbers_where_a_text_is_asked_for(at_home: Path):
    (at_home / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndata:\n  path: 2024\n  label_column: 0\n  shifts: {2019: 2020}\n  size: 32\n"
    (at_home / "own" / "experiment" / "mine.yaml").write_text(text)
    cfg = job_config(compose_config(["--config-dir", "own", "data=image_csv", "experiment=mine"]))
    assert (cfg.data.path, cfg.data.label_column, cfg.data.size) == ("2024", "0", 32)
    assert cfg.data.shifts == {"2019": "2020"}


@pytest.mark.parametrize("name", [*ODD, "plain"])
def test_the_command_that_repeats_a_run_names_its_directory_whatever_it_is_called(name: str):
    directory = Path("/outputs") / name / "0123"
    assert shlex.split(repeat_command(directory)) == ["headstart", "rerun", str(directory)]
    assert as_command(repeat_command(directory)) == repeat_command(directory)
    assert shlex.split(as_command(f"headstart rerun {directory}")) == ["headstart", "rerun", str(directory)]

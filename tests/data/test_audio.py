"""Folders and tables of sounds: checked once, all faults together, the same wherever they lie."""

import shutil

import numpy as np
import pytest
import soundfile

from dividing import asking, divided, parted
from headstart.data import contents, file_check
from headstart.data.audio import AudioCsv, AudioFolder
from headstart.errors import InputError
from headstart.run.pools import columns_identity
from headstart.splits.holdout import Holdout
from headstart.splits.kfold import KFold


def write(path, seconds=0.2, sample_rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*path.name.encode()])
    soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * sample_rate)), sample_rate)
    return path


def message(source) -> str:
    with pytest.raises(InputError) as error:
        source.check()
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten sounds."""
    for name in ("dog", "rain"):
        for number in range(10):
            write(tmp_path / "sounds" / name / f"{name}{number}.wav", 0.1 + 0.05 * number)
    return tmp_path / "sounds"


@pytest.fixture
def table(folder):
    """A table beside the class folders, with folds 1 to 5 as ESC-50 has them."""
    files = sorted(folder.rglob("*.wav"))
    rows = [f"{p.relative_to(folder).as_posix()},{p.parent.name},{1 + n % 5}" for n, p in enumerate(files)]

    def make(changed=rows, header="filename,category,fold", name="meta.csv"):
        (folder / name).write_text("\n".join([header, *changed]) + "\n")
        return folder / name

    make.rows = rows
    return make


ESC = {"audio_column": "filename", "label_column": "category"}

# --- folders --------------------------------------------------------------------------------------------------------


def test_class_folders_give_classes_labels_ids_and_sounds(folder):
    source = AudioFolder(str(folder), seconds=0.3)
    source.check()
    assert source.modality == "audio"
    assert source.classes == ("dog", "rain")
    assert source.labels.tolist() == [0] * 10 + [1] * 10
    assert source.ids[0] == "dog/dog0.wav"
    assert source.overrides == {"seconds": 0.3}
    inputs = source.examples(sample_rate=16_000, **source.overrides).batch([0, 9])
    assert inputs["waveform"].shape == (2, 4800)
    assert inputs["lengths"].tolist() == [1600, 4800]
    assert AudioFolder(str(folder)).overrides == {}


def test_all_files_that_cannot_be_used_are_named_together(folder):
    (folder / "dog" / "empty.wav").write_bytes(b"")
    (folder / "dog" / "broken.mp3").write_bytes(b"nonsense" * 100)
    (folder / "rain" / "cut.wav").write_bytes((folder / "rain" / "rain9.wav").read_bytes()[:3000])
    write(folder / "rain" / "short.flac", 0.01)
    (folder / "rain" / "notes.txt").write_text("no sound")
    said = message(AudioFolder(str(folder)))
    assert "4 of 24 files" in said
    for part in ("dog/empty.wav (empty file)", "dog/broken.mp3 (", "rain/cut.wav (cut off", "short.flac (too short"):
        assert part in said


def test_files_are_checked_once(folder, monkeypatch):
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    AudioFolder(str(folder)).check()
    read = []
    real = file_check._read
    monkeypatch.setattr(
        file_check, "_read", lambda own, n, verify: read.append(own.name(n).rpartition("/")[2]) or real(own, n, verify)
    )
    AudioFolder(str(folder)).check()
    assert read == []
    write(folder / "dog" / "dog0.wav", 0.7)
    AudioFolder(str(folder)).check()
    assert read == ["dog0.wav"]


def test_the_fingerprint_is_of_the_contents_wherever_they_lie(folder, tmp_path):
    here = AudioFolder(str(folder)).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert AudioFolder(str(tmp_path / "elsewhere"), seconds=3.0).fingerprint == here
    write(tmp_path / "elsewhere" / "dog" / "dog0.wav", 0.7)
    assert AudioFolder(str(tmp_path / "elsewhere")).fingerprint != here


def test_shifts_are_sounds_of_the_same_classes(folder, tmp_path):
    for name in ("dog", "rain"):
        write(tmp_path / "street" / name / "1.wav")
    source = AudioFolder(str(folder), shifts={"street": str(tmp_path / "street")})
    source.check()
    assert source.shifts["street"].classes == source.classes
    write(tmp_path / "street" / "cat" / "1.wav")
    assert "classes that the training data lacks: cat" in message(
        AudioFolder(str(folder), shifts={"street": str(tmp_path / "street")})
    )


@pytest.mark.parametrize("make", [AudioFolder, AudioCsv])
def test_what_is_not_there_is_told(make, tmp_path):
    assert "does not exist" in message(make(str(tmp_path / "nowhere.csv")))


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_says_the_split(folder, table):
    rows = [row.rpartition(",")[0] + "," + ["train", "dev", "test"][n % 3] for n, row in enumerate(table.rows)]
    source = parted(AudioCsv(str(table(rows, "filename,category,part")), None, "filename", "category", seconds=0.1))
    source.check()
    assert source.ids[0] == "dog/dog0.wav"
    assert source.parts.tolist() == [["train", "val", "test"][n % 3] for n in range(20)]


def test_paths_may_start_elsewhere(folder, table, tmp_path):
    path = shutil.move(table(), tmp_path / "meta.csv")
    AudioCsv(str(path), str(folder), **ESC).check()
    assert "20 files not found" in message(AudioCsv(str(path), None, **ESC))


@pytest.mark.parametrize("val_fold", [None, 3, "3"])
def test_folds_say_what_is_held_out(table, val_fold):
    parts = divided(AudioCsv(str(table()), **ESC), KFold(2, column="fold", val_fold=val_fold))
    folds = np.array([1 + n % 5 for n in range(20)])
    assert parts.test.tolist() == np.flatnonzero(folds == 2).tolist()
    if val_fold is None:
        assert len(parts.val) == 2
        assert not set(parts.val) & set(parts.test)
    else:
        assert parts.val.tolist() == np.flatnonzero(folds == 3).tolist()
    assert len(parts.train) + len(parts.val) + len(parts.test) == 20


def test_folds_are_told_from_others_by_their_column_and_the_sounds_stay_the_same(table, folder):
    first, same = (asking(AudioCsv(str(table()), **ESC), KFold(fold, column="fold")) for fold in (1, 2))
    assert first.fingerprint == same.fingerprint
    assert columns_identity(first) == columns_identity(same)
    moved = [f"{row[:-1]}{1 + (int(row[-1]) % 5)}" for row in table.rows]
    other = asking(AudioCsv(str(table(moved, name="other.csv")), **ESC), KFold(1, column="fold"))
    assert other.fingerprint == first.fingerprint
    assert columns_identity(other) != columns_identity(first)


@pytest.mark.parametrize(
    ("splitter", "words"),
    [
        (KFold(0, column="fold"), r"Unknown split.fold '0'. Choices: 1, 2, 3, 4, 5"),
        (KFold(1, column="fold", val_fold="x"), r"Unknown split.val_fold 'x'"),
        (KFold(2, column="fold", val_fold="2"), r"must be different folds"),
        (KFold(1, column="flod"), r"no column 'flod', which split.column names"),
        (Holdout(group_column="who"), r"no column 'who', which split.group_column names"),
    ],
)
def test_folds_that_make_no_sense_are_refused(table, splitter, words):
    with pytest.raises(InputError, match=words):
        divided(AudioCsv(str(table()), **ESC), splitter)


def test_cells_of_a_table_of_sounds_follow_the_rule_of_all_tables(table):
    rows = [row[:-1] + f"{float(row[-1])}" for row in table.rows]  # as a column with gaps is often written
    rows[0] = rows[0].replace(",dog,", ",nan,")
    source = asking(AudioCsv(str(table(rows)), **ESC), KFold(2, column="fold"))
    source.check()
    assert len(source.ids) == 19
    assert source.columns == {"fold": tuple(str(1 + n % 5) for n in range(1, 20))}
    rows = [row.replace(",dog,", ",none,") for row in table.rows]
    assert "data.missing_values" in message(AudioCsv(str(table(rows)), **ESC))
    source = AudioCsv(str(table(rows)), **ESC, missing_values=[])
    source.check()
    assert "none" in source.classes


def test_files_in_two_folds_and_empty_folds_are_told(table):
    file, name, _ = table.rows[0].split(",")
    source = asking(AudioCsv(str(table([*table.rows, f"{file},{name},2"])), **ESC), KFold(1, column="fold"))
    assert "different things of the same file in column 'fold': dog/dog0.wav" in message(source)
    empty = [f"{file},{name},", *table.rows[1:]]
    with pytest.raises(InputError, match=r"no value in column 'fold' for 1 example, but split.column needs one"):
        divided(AudioCsv(str(table(empty)), **ESC), KFold(1, column="fold"))

"""What is not read as it is, is said: on the screen, in a dry run, in the record, and again from the caches."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from headstart import notes
from headstart.cli.main import main
from pictures import tiny, write_folder

SAID = ("1 of 37 files in the class folders of", "36 of 36 pictures in")


def test_files_and_values_are_said_in_a_dry_run_and_in_every_record(at_home: Path, capsys):
    pictures = write_folder(at_home / "pictures")
    for path in pictures.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16).save(path)
    (pictures / "circle" / "phone.heic").write_bytes(b"something")
    notes.show().shown.clear()
    assert main(["train", "-m", *tiny(pictures), "strategy=feature_extraction", "--dry-run"]) == 0
    shown = capsys.readouterr().err
    assert [shown.count(f"note: {words}") for words in SAID] == [1, 1]
    for name in ("one", "other"):
        notes.show().shown.clear()
        assert main(["train", *tiny(pictures, "strategy=feature_extraction", f"hydra.run.dir={name}")]) == 0
        shown = capsys.readouterr().err
        record = json.loads((at_home / name / "result.json").read_text())
        for words in SAID:
            assert shown.count(f"note: {words}") == 1
            assert any(note.startswith(words) for note in record["notes"])
        assert record["data"]["files"]["not_read"] == {".heic": 1}
        assert record["data"]["values"]["integer"]["read_as"] == [0, 4095]

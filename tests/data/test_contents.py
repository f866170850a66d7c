"""Every source of files and texts knows which of its examples are exact copies."""

import shutil

import numpy as np

from headstart.data.audio import AudioFolder
from headstart.data.images import ImageFolder
from headstart.data.text_sources import OpenMojiNames, TextCsv


def test_every_source_of_files_and_texts_knows_its_copies(folder, tmp_path):
    shutil.copy(folder / "ant" / "ant0.png", folder / "bee" / "again.png")
    pictures = ImageFolder(str(folder))
    assert len(set(pictures.contents)) == len(pictures.ids) - 1
    import soundfile

    for name in ("a", "b"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for number in range(3):
            soundfile.write(tmp_path / "sounds" / name / f"{number}.wav", 0.1 * np.ones(4000), 8000)
    assert len(set(AudioFolder(str(tmp_path / "sounds")).contents)) == 1
    table = tmp_path / "t.csv"
    table.write_text("text,label\nOne two,a\none  TWO,b\nthree,a\n")
    assert len(set(TextCsv(str(table)).contents)) == 2


def test_the_embedded_texts_have_no_copies():
    contents = OpenMojiNames().contents
    assert len(set(contents)) == len(contents)

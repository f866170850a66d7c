"""The font of all figures: DejaVu Sans without what only the shaping of text needs.

Every PDF embeds the glyphs that it uses, and cutting them from the whole font takes longer than all else that is done
for a figure. A smaller one with the same outlines and widths is cut once and kept.
"""

import io
from functools import cache
from pathlib import Path

from headstart.record.writing import write_bytes
from headstart.system.cache import cache_dir, versions

WHOLE = "DejaVu Sans"
"""What is taken for letters that the smaller one lacks, and where it cannot be made."""
SMALLER = "Headstart Sans"
RANGES = ((0x20, 0x24F), (0x370, 0x52F), (0x2000, 0x22FF))
"""Letters of Europe, and signs: punctuation, arrows, operators."""
NAMES = (1, 3, 4, 6, 16)
"""Entries of a font's table of names that hold its own; what is changed may not be called as the original is."""


@cache
def families() -> tuple[str, ...]:
    """Fonts by name, the first that has a letter being taken for it."""
    from matplotlib import font_manager

    file = cache_dir("fonts") / f"sans {versions('matplotlib', 'fonttools')}.ttf"
    try:
        if not file.exists():
            write_bytes(file, _cut(Path(font_manager.findfont(WHOLE, fallback_to_default=False))))
        font_manager.fontManager.addfont(file)
    except (OSError, RuntimeError, ValueError):  # no place to write, or not a font
        return (WHOLE,)
    return SMALLER, WHOLE


def _cut(whole: Path) -> bytes:
    from fontTools import subset

    options = subset.Options(layout_features=[], recalc_timestamp=False, name_IDs=["*"], notdef_outline=True)
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "FFTM"]
    font = subset.load_font(str(whole), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[code for low, high in RANGES for code in range(low, high + 1)])
    subsetter.subset(font)
    for entry in font["name"].names:
        if entry.nameID in NAMES:
            entry.string = SMALLER.replace(" ", "") if entry.nameID == 6 else SMALLER
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return buffer.getvalue()

"""What a data set of pictures holds that is not read as it is: counted, scaled alike, or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.data.deep_pictures import DEEP
from headstart.data.file_check import Finding
from headstart.data.picture_values import Scales, scale_of
from headstart.names import agreeing, listed, plural

_NAMES = {"integer": "whole numbers", "float": "fractions", "colour": "colours"}
_LEVELS = {8: "256 levels (data.depth=16 keeps 65,536)", DEEP: "65,536 levels (data.depth=8 keeps 256)"}
"""By the bits of a value that are kept, what is said of them."""
READ_OTHERWISE = {
    "colour": "have 16 bits a colour, read by their upper 8",
    "coloured": "have colours, of which brightness alone is read (data.channels=1)",
    "frames": "are animated or have several pages, of which the first is read",
    "clear": "are transparent in places, and are laid over white",
    "long": "are more than 32 times as long as wide, so that little of them is seen",
}
"""By fact, what is to be said of pictures that have it."""
_IN_RECORD = {
    "colour": "upper_8_of_16_bits",
    "coloured": "brightness_only",
    "frames": "first_frame_only",
    "clear": "over_white",
    "long": "very_long",
}
"""What the record calls these facts."""
_ENOUGH = 64
"""Of 256: a data set of 16-bit colours that reaches this high is read well enough by its upper 8 bits."""


def are_deep(findings: Sequence[Finding]) -> bool:
    """Whether any picture holds more than 8 bits a value."""
    return any("depth" in finding.facts for finding in findings)


def scales_of(
    findings: Sequence[Finding], given: Sequence[float] | None, known: Scales, bits: int = 8
) -> dict[str, Any]:
    """Black and white of each kind of deep values that there is: as `given`, `known` (of the data that these are a
    shift of), or by what all pictures hold."""
    return {
        kind: tuple(given) if given else known.get(kind) or scale_of(kind, found)
        for kind, found in _held(findings, bits).items()
    }


def problems_of(findings: Sequence[Finding], ids: Sequence[str]) -> list[str]:
    """Colours of 16 bits of which too little would be left."""
    found = [finding.facts["depth"] for finding in findings if _has(finding, "colour")]
    highest = max((high for _, _, high, _ in found), default=_ENOUGH)
    if highest >= _ENOUGH:
        return []
    places = [place for place, finding in enumerate(findings) if finding.facts.get("depth", [""])[0] == "colour"]
    return [
        f"{plural(len(places), 'picture')} with 16 bits a colour, of which the upper 8 can be read, hold nothing above "
        f"{int(highest) * 256 + 255:,} of 65,535, so that they would be next to black: "
        f"{listed([ids[place] for place in places], 5)}. Save them with 8 bits a colour, or leave data.depth "
        "out, so that all 16 are read."
    ]


def remarks_of(findings: Sequence[Finding], ids: Sequence[str], where: str, scales: Scales, bits: int = 8) -> list[str]:
    """What is to be said of the pictures of one data set, each with its count."""
    remarks = [
        f"{len(found):,} of {len(findings):,} pictures in {where} "
        f"{agreeing(len(found), 'hold')} more than 8 bits a value: {_NAMES[kind]} {_range(kind, found)}. For all of "
        f"them alike, {_number(scales[kind][0])} is read as black and {_number(scales[kind][1])} as white "
        f"(data.value_range=[LOW,HIGH] chooses others), in {_LEVELS[bits]}."
        for kind, found in _held(findings, bits).items()
    ]
    odd = [place for place, finding in enumerate(findings) if finding.facts]
    for name, words in _read_otherwise(bits).items():
        places = [place for place in odd if _has(findings[place], name)]
        if places:
            shown = listed([_shown(ids[place], findings[place], name) for place in places[:3]])
            remarks.append(
                f"{len(places):,} of {len(findings):,} pictures in {where} "
                f"{agreeing(len(places), words)}, such as {shown}."
            )
    return remarks


def record_of(findings: Sequence[Finding], scales: Scales, bits: int = 8) -> dict[str, Any]:
    """The same as numbers; empty where all is as usual."""
    odd = [finding for finding in findings if finding.facts]
    counts = {name: sum(_has(finding, name) for finding in odd) for name in _read_otherwise(bits)}
    values = {
        kind: {
            "pictures": len(found),
            "holds": [*_ends(found)],
            "read_as": list(scales[kind]),
        }
        for kind, found in _held(findings, bits).items()
    }
    return {**({"values": values} if values else {}), **{_IN_RECORD[name]: n for name, n in counts.items() if n}}


def _ends(found: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    return min(low for low, _, _ in found), max(high for _, high, _ in found)


def _range(kind: str, found: Sequence[tuple[float, float, float]]) -> str:
    low, high = _ends(found)
    return f"below {_number(high + 1)}" if kind == "colour" else f"from {_number(low)} to {_number(high)}"


def _read_otherwise(bits: int) -> dict[str, str]:
    return {name: words for name, words in READ_OTHERWISE.items() if name != "colour" or bits == 8}


def _held(findings: Sequence[Finding], bits: int) -> Mapping[str, list[tuple[float, float, float]]]:
    """Lowest and highest value and declared white of each deep picture, by kind; colours, of which the upper 8 bits
    were looked at, where all 16 are kept."""
    held: dict[str, list[tuple[float, float, float]]] = {}
    for finding in findings:
        if "depth" in finding.facts:
            kind, low, high, declared = finding.facts["depth"]
            if kind != "colour":
                held.setdefault(kind, []).append((low, high, declared))
            elif bits == DEEP:
                held.setdefault(kind, []).append((0, 256 * high + 255, declared))
    return held


def _has(finding: Finding, name: str) -> bool:
    return finding.facts.get("depth", [""])[0] == "colour" if name == "colour" else name in finding.facts


def _shown(key: str, finding: Finding, name: str) -> str:
    return f"{key} ({finding.facts['long'][0]:,} × {finding.facts['long'][1]:,})" if name == "long" else key


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"

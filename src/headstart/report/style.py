"""One look for all figures: a colour and a marker for each strategy, in light and in dark, and the drawing of files."""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from headstart.names import plain
from headstart.report.design import Contender
from headstart.report.font import families

MILLIMETRE = 1 / 25.4
DOTS = 200
"""Pixels an inch in which text is measured; files hold outlines, not pixels."""
COLUMN = 85 * MILLIMETRE
"""Width of a column of print, in inches: the width of every figure."""

INK, MUTED, RULE, PAPER, ACCENT = "#1c1c1a", "#63625c", "#d9d7d0", "#fffffe", "#1f5f99"
TONES = {  # light: dark; the page has a variable for each
    INK: "#ecebe6", MUTED: "#a5a39b", RULE: "#3b3a36", PAPER: "#171715", ACCENT: "#7db7ec",
}  # fmt: skip

STRATEGIES: dict[str, tuple[str, str, Any]] = {  # light, dark, marker
    "feature_extraction": ("#0072b2", "#5db3ec", "o"),
    "fine_tune": ("#d55e00", "#ff8b4a", "s"),
    "lp_ft": ("#00795a", "#2cc79c", "D"),
    "gradual_unfreeze": ("#b4508b", "#eb94c6", "^"),
    "discriminative": ("#a87400", "#ecb73f", "v"),
    "from_scratch": ("#6d6d6b", "#b3b3af", "X"),
    "partial": ("#5a4bb0", "#ab9ff7", "P"),
    "lora": ("#861c4f", "#e774a8", ">"),
    "peft": ("#a3423a", "#f0938a", "d"),
    "bias_only": ("#70701a", "#c9c95c", "<"),
    "norm_only": ("#17808c", "#55cfdd", "p"),
    "l2_sp": ("#8a5433", "#d9a680", "h"),
    "bss": ("#5d6b1f", "#c3cf7a", "8"),
    "stochnorm": ("#0b5563", "#63b7c7", "*"),
    "surgical_auto": ("#3f6b96", "#93bde6", "H"),
    "delta": ("#7a4a78", "#d3a3d0", (4, 1, 0)),
    "sam": ("#2e6b3a", "#86c994", (5, 1, 0)),
    "cotuning": ("#94591a", "#e0a566", (6, 1, 0)),
}
DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
FILLS = ("full", "none", "left", "top")

SETTINGS: Any = {
    "font.size": 6.5, "text.parse_math": False, "text.color": INK,
    "axes.labelsize": 6.5, "axes.titlesize": 6.5, "axes.titleweight": "normal", "axes.titlelocation": "left",
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.linewidth": 0.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "axes.unicode_minus": True,
    "grid.color": RULE, "grid.linewidth": 0.4, "xtick.labelsize": 6, "ytick.labelsize": 6, "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.major.width": 0.5,
    "ytick.major.width": 0.5, "xtick.major.size": 2, "ytick.major.size": 2, "xtick.minor.size": 0,
    "ytick.minor.size": 0, "lines.linewidth": 1.1, "lines.markersize": 3.6, "legend.frameon": False,
    "legend.fontsize": 6, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "pdf.fonttype": 42, "svg.hashsalt": "headstart", "path.simplify": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How a contender is drawn everywhere: colour and marker by strategy, dash and fill by its other factors."""

    color: str
    marker: Any
    dash: Any = "-"
    fill: str = "full"

    def line(self, **extra: Any) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot`."""
        look = {"color": self.color, "marker": self.marker, "linestyle": self.dash, "fillstyle": self.fill}
        return {**look, "markerfacecoloralt": PAPER, "markeredgewidth": 0.7, **extra}


@dataclass(slots=True)
class Drawing:
    """A finished figure: its files, and what the page needs to show it to eyes and ears."""

    name: str
    title: str
    alt: str
    caption: str
    inline: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def looks(contenders: Iterable[Contender]) -> dict[Contender, Look]:
    """A look for each contender; known strategies always have their own colour, others take spare ones in turn."""
    contenders = list(contenders)
    leads = list(dict.fromkeys(contender.lead for contender in contenders))
    rests = list(dict.fromkeys(contender.rest for contender in contenders))
    spare = [look for name, look in STRATEGIES.items() if name not in leads] or list(STRATEGIES.values())
    strangers = sorted(lead for lead in leads if lead not in STRATEGIES)
    colors = {lead: STRATEGIES[lead] for lead in leads if lead in STRATEGIES}
    colors |= {lead: spare[i % len(spare)] for i, lead in enumerate(strangers)}
    found = {}
    for contender in contenders:
        color, _, marker = colors[contender.lead]
        place = rests.index(contender.rest)
        found[contender] = Look(color, marker, DASHES[place % len(DASHES)], FILLS[place % len(FILLS)])
    return found


def palette() -> dict[str, tuple[str, str, str]]:
    """CSS variable: (its colour in light, in dark, the hex in drawings it stands for), for every colour used."""
    pairs = {**TONES, **{light: dark for light, dark, _ in STRATEGIES.values()}}
    return {f"--c{i}": (light, dark, light) for i, (light, dark) in enumerate(pairs.items())}


def draw(
    name: str, title: str, alt: str, caption: str, height: float, paint: Callable[[Any], None], width: float = COLUMN
) -> Drawing:
    """Make a figure of a column's width and `height` inches, have `paint` fill it, and write its files."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context({**SETTINGS, "font.family": families()}):
        layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02)
        figure = Figure(figsize=(width, height), dpi=DOTS, layout=layout)
        FigureCanvasAgg(figure)
        paint(figure)
        for _ in range(2):  # names beside the axes move with them, so the first layout is not yet the last
            layout.execute(figure)
        figure.set_layout_engine(None)  # no layout again for every file, nor the drawing that it takes
        return finish(figure, name, plain(title), plain(alt), plain(caption))


def shorten(label: str, length: int = 34) -> str:
    """A label that fits a figure."""
    label = plain(label)
    return label if len(label) <= length else label[: length - 1] + "…"


def finish(figure: Any, name: str, title: str, alt: str, caption: str) -> Drawing:
    """Write a matplotlib figure as SVG (glyphs as paths) and PDF (TrueType), and as SVG for the page."""
    from matplotlib import rc_context

    files = {}
    with rc_context({**SETTINGS, "font.family": families(), "svg.fonttype": "path"}):
        files["svg"] = _save(figure, "svg", {"Date": None, "Title": title})
        files["pdf"] = _save(figure, "pdf", {"CreationDate": None, "Title": title})
    with rc_context({**SETTINGS, "font.family": families(), "svg.fonttype": "none"}):
        inline = inlined(_save(figure, "svg", {"Date": None}).decode(), name, alt)
    return Drawing(name, title, alt, caption, inline, files)


def _save(figure: Any, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def inlined(svg: str, name: str, alt: str) -> str:
    """An SVG to stand in a page: ids of its own, colours as CSS variables, an accessible name, no metadata."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}title"):
                parent.remove(child)
    used = set(re.findall(r"#([\w.-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                if value in used:
                    element.set("id", f"{name}-{value}")
                else:
                    del element.attrib["id"]
            elif key in ("href", f"{{{XLINK}}}href"):
                del element.attrib[key]
                element.set("href", value.replace("#", f"#{name}-"))
            else:
                element.set(key, _rounded(_themed(value.replace("url(#", f"url(#{name}-"))))
        if element.tag == f"{{{SVG}}}style":
            element.text = ""
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", ElementTree.tostring(root, encoding="unicode"))
    return re.sub(r"\n\s*", "\n", text)


def _rounded(place: str) -> str:
    """Hundredths of a point are enough for where a thing is drawn; what is written keeps its digits."""
    return re.sub(r"(\d\.\d{2})\d+", r"\1", place)


_VARIABLES = {light: f"var({name})" for name, (light, _, _) in palette().items()}
_HEX = re.compile(r"#[0-9a-f]{6}")
_FONT = re.compile(r"font: (?:[a-z]+ )*(\d[\d.]*px) [^;]*|font-family:[^;]*;?")


def _themed(style: str) -> str:
    """A style with our colours as variables and the page's font."""
    style = _HEX.sub(lambda match: _VARIABLES.get(match[0], match[0]), style)
    return _FONT.sub(lambda match: f"font-size: {match[1]}" if match[1] else "", style)

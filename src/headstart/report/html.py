"""Makes the page: one file with its style, script and figures inside, that fetches nothing and may run nothing else."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headstart.names import plain_lines
from headstart.report.answer import Answer
from headstart.report.artifacts import Hard
from headstart.report.reproducibility import Item
from headstart.report.run_sheets import FailedRuns
from headstart.report.style import Drawing, palette
from headstart.report.tables import Table

FOLDER = Path(__file__).parent / "page"
BREAKS = re.compile(r"(?<=\w)([._/=])(?=\w{3})")
"""Where a long name may go on in the next line."""


@dataclass(slots=True)
class Section:
    """A part of the page: figures and tables under a heading, or a sentence that says why there are none."""

    key: str
    title: str
    lead: str = ""
    drawings: list[Drawing] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: str = ""
    failures: list[FailedRuns] = field(default_factory=list)
    hardest: list[Hard] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)
    """Tables behind a summary line: long ones, and those that most readers pass over."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing but the sentence."""
        return not (self.drawings or self.tables or self.failures or self.hardest or self.items or self.folded)


@dataclass(slots=True)
class Page:
    """All that the page shows."""

    name: str
    facts: Sequence[str]
    answer: Answer
    hero: Sequence[Drawing]
    sections: Sequence[Section]
    notes: Sequence[str]
    swatches: Mapping[str, str]
    """CSS variable of a contender's colour, by its label."""
    kind: str = "comparison"
    """What it is a page of."""
    summary: str = "summary.json"
    """The file beside it that has every number."""


def render(page: Page) -> str:
    """The page as text. Everything that comes from configs, errors or data is escaped by the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain_lines(value) if type(value) is str else value,
    )
    environment.filters["breakable"] = lambda text: Markup(BREAKS.sub(r"\1<wbr>", str(escape(plain_lines(text)))))
    environment.filters["svg"] = lambda drawing: Markup(drawing.inline)  # built by ElementTree, which escapes
    environment.filters["picture"] = lambda data: "data:image/png;base64," + base64.b64encode(data).decode()
    script = (FOLDER / "page.js").read_text("utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        page=page,
        style=Markup(_variables() + (FOLDER / "page.css").read_text("utf-8")),
        script=Markup(script),
        digest=digest,
    )


def _variables() -> str:
    """The palette as CSS variables, dark where the reader's system is; paper is always light."""
    light = ";".join(f"{name}:{value}" for name, (value, _, _) in palette().items())
    dark = ";".join(f"{name}:{value}" for name, (_, value, _) in palette().items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"

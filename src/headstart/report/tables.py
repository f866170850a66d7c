"""Tables that read the same everywhere: as CSV (raw values), Markdown and LaTeX (as shown), and in the page."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from headstart.names import in_csv, in_latex, in_markdown

Value = float | str | None | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its key in the CSV file (several, with commas, for an interval), its heading, what it holds."""

    key: str
    title: str
    numeric: bool = False
    about: str = ""
    unit: str = ""
    """Of the values in the CSV file, whose header names it: `percent`, `points`."""
    detail: bool = False
    """Whether it is left out where a table must be narrow: on paper, and at first sight."""

    @property
    def keys(self) -> list[str]:
        """The headings of the CSV file."""
        return [f"{key}_{self.unit}" if self.unit else key for key in self.key.split(",")]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, and the value that it is sorted by and that the CSV file holds."""

    text: str
    value: Value = None
    strong: bool = False
    look: str = ""
    """Name of a CSS class for what the page shows besides."""

    @property
    def raw(self) -> Value:
        """The value, or the text where there is none."""
        return self.text if self.value is None else self.value

    @property
    def sort_key(self) -> str:
        """The value as the page's sorting reads it; empty where nothing is known, which sorts last."""
        first = self.raw[0] if isinstance(self.raw, tuple) else self.raw
        if isinstance(first, str) or first is None:
            return first or ""
        return repr(float(first)) if isfinite(first) else ""


@dataclass(slots=True)
class Table:
    """A named table; `shown` rows of it are in the page, all of them in its files."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""
    shown: int = 1000

    def add(self, *cells: Cell | str) -> None:
        """Append a row, one cell a column."""
        assert len(cells) == len(self.columns), (self.name, len(cells))
        self.rows.append([Cell(cell) if isinstance(cell, str) else cell for cell in cells])

    @property
    def brief(self) -> list[int]:
        """Places of the columns that are no detail."""
        return [place for place, column in enumerate(self.columns) if not column.detail]

    @property
    def full(self) -> list[int]:
        """Places of all columns."""
        return list(range(len(self.columns)))

    @property
    def hidden(self) -> int:
        """Rows that are in the files alone."""
        return max(0, len(self.rows) - self.shown)

    def csv(self) -> str:
        """Comma-separated, raw values in full precision, keys as header."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(in_csv(key) for column in self.columns for key in column.keys)
        for row in self.rows:
            values = [cell.raw if isinstance(cell.raw, tuple) else (cell.raw,) for cell in row]
            writer.writerow(_csv_value(value) for group in values for value in group)
        return buffer.getvalue()

    def markdown(self) -> str:
        """A pipe table under its caption, without details."""
        columns = [self.columns[place] for place in self.brief]
        lines = [f"**{in_markdown(self.caption)}**", ""]
        lines.append("| " + " | ".join(in_markdown(column.title) for column in columns) + " |")
        lines.append("|" + "|".join("---:" if column.numeric else "---" for column in columns) + "|")
        for row in self.rows:
            cells = [row[place] for place in self.brief]
            texts = [f"**{in_markdown(cell.text)}**" if cell.strong else in_markdown(cell.text) for cell in cells]
            lines.append("| " + " | ".join(texts) + " |")
        return "\n".join([*lines, *(["", in_markdown(self.note)] if self.note else [])]) + "\n"

    def latex(self) -> str:
        r"""A `table` with booktabs rules, without details, shrunk to `\columnwidth` where it is wider.

        Its first lines name what it needs.
        """
        columns = [self.columns[place] for place in self.brief]
        shape = "".join("r" if column.numeric else "l" for column in columns)
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(self.caption)}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9:-]', '-', self.name)}}}",
            r"\small",
            r"\setlength{\tabcolsep}{4pt}",
            r"\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{shape}@{{}}}}",
            r"\toprule",
            " & ".join(in_latex(column.title) for column in columns) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            texts = [in_latex(row[place].text) for place in self.brief]
            texts = [
                rf"\textbf{{{text}}}" if row[place].strong else text
                for place, text in zip(self.brief, texts, strict=True)
            ]
            lines.append("{}" + " & ".join(texts) + r" \\")  # {}: a row that begins with [ or * is no option of \\
        lines += [r"\bottomrule", r"\end{tabular}}"]
        if self.note:
            lines += [r"\par\smallskip", rf"{{\footnotesize {in_latex(self.note)}}}"]
        lines.append(r"\end{table}")
        return "\n".join([*_needs("".join(lines)), *lines]) + "\n"


def _needs(text: str) -> list[str]:
    """What LaTeX must load and be, in comments."""
    lines = [r"% Needs \usepackage{booktabs} and \usepackage{graphicx}."]
    strange = "".join(sorted({letter for letter in text if ord(letter) > 0x24F and letter not in "–—−±×…’“”"}))
    if strange:
        lines.append(f"% Holds {strange[:40]}: compile with lualatex or xelatex, in a font that has them.")
    return lines


def _csv_value(value: float | str | None) -> str | float:
    if isinstance(value, float):
        if not isfinite(value):
            return ""
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return in_csv(value) if isinstance(value, str) else "" if value is None else value

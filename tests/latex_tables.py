"""Reads the tables in LaTeX as LaTeX would, as far as can be done without it."""

import re

KNOWN = {
    "begin", "end", "centering", "caption", "label", "small", "setlength", "tabcolsep", "resizebox", "ifdim", "width",
    "columnwidth", "else", "fi", "toprule", "midrule", "bottomrule", "textbf", "par", "smallskip", "footnotesize",
    "textbackslash", "textless", "textgreater", "textasciitilde", "textasciicircum", "textbar", "textquotesingle",
    "ldots", "textquotedbl", "textasciigrave",
}  # fmt: skip
TOKEN = re.compile(r"\\([A-Za-z]+|.)|([{}$&#^_~%])", re.S)


def rows_of(text: str) -> list[int]:
    """Cells in each row of the table, its head first.

    Raises `AssertionError` where LaTeX would stop or show something else: braces, environments or mathematics that do
    not pair, a character with a meaning that is not escaped, a command that no table of ours has, rows of other lengths
    than the table's columns.
    """
    body = re.sub(r"(?m)(^|(?<=\{))%.*\n", "", text)  # comments stand at the beginning of a line, or join two
    depth, mathematics, environments, rows, cells = 0, False, [], [], 1
    for found in TOKEN.finditer(body):
        command, character = found.groups()
        inside = environments[-1:] == ["tabular"]
        if command in ("begin", "end"):
            name = re.match(r"\{(\w+)\}", body[found.end() :])
            assert name is not None, body[found.start() :][:60]
            if command == "begin":
                environments.append(name[1])
                cells = 1
            else:
                assert environments.pop() == name[1]
        elif command == "\\" and inside:
            rows.append(cells)
            cells = 1
        elif command is not None and command.isalpha():
            assert command in KNOWN or mathematics, command
        elif character in ("{", "}"):
            depth += 1 if character == "{" else -1
            assert depth >= 0
        elif character == "$":
            mathematics = not mathematics
        elif character == "&":
            assert inside, "& outside of the table"
            cells += 1
        elif character is not None:
            assert mathematics, (character, body[max(0, found.start() - 30) :][:60])
            assert character in "^_"
    assert (depth, mathematics, environments) == (0, False, [])
    shape = re.search(r"begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", body)
    assert shape is not None
    assert set(rows) == {len(shape[1])}, (rows, shape[1])
    return rows


def width_of(text: str) -> int:
    """Characters in the widest row, as if columns could not share what each spares."""
    lines = [line.removesuffix("\\\\").removeprefix("{}") for line in text.splitlines() if line.endswith("\\\\")]
    cells = [[re.sub(r"\\[A-Za-z]+|[{}\\$]", "", cell).strip() for cell in line.split(" & ")] for line in lines]
    return sum(max(map(len, column)) for column in zip(*cells, strict=True))

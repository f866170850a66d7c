"""Names that someone may have given to a class, a file or a comparison."""

NASTY = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "bell\x07", "nul\x00", "back\x08\x08\x08",
    "new\nline\r\nand\rtab\t",
    "\u202egnp.txt", "\u2066a\u2069", "\ufeffmark", "\ud800half", "\udcff", "\ufffe", "\u2028", "\x7f", "\x85",
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1", "＝1", " =1", "]]>",
    "<script>alert(1)</script>",
    "&amp;", '"quoted"', "'", "$x$", r"\input{/etc/passwd}", "{{ 7*7 }}", "{% raw %}", "[red]x[/]", ":smile:", "|a|b|",
    "![x](http://h/y)", "**b**", "`c`", "%s %d", "100%", "#1", "~", "^", "_", "", " ", "é", "日本", "👩‍👩‍👧",
    "a" * 5000,
)  # fmt: skip
CONTROL = [*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e", "\u2066", "\ufeff", "\ufffe", "\u2028"]


def is_safe(text: str, *but: str) -> bool:
    """Whether nothing in a text acts on what shows it, and it can be written."""
    text.encode()
    return not any(character in text for character in CONTROL if character not in but)

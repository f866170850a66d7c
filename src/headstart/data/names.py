"""What data sets and classes are called."""

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from headstart.names import listed

log = logging.getLogger(__name__)


def folder_name(folder: Path) -> str:
    """A data set's name by its folder."""
    return folder.resolve().name or str(folder)


def in_one_form(names: Sequence[str], where: str) -> list[str]:
    """Class names in Unicode's normal form C (é as one letter, not as e and an accent); what this makes one is said."""
    forms = {name: unicodedata.normalize("NFC", name) for name in dict.fromkeys(names)}
    merged = _several(forms.items())
    if merged:
        log.warning(
            "%d of the classes of %s are written in two ways that look the same (letters with marks, in Unicode's "
            "normal forms C and D) and are read as one each: %s.",
            *(len(merged), where, listed(merged, 5)),
        )
    return [forms[name] for name in names]


def _several(pairs: Iterable[tuple[str, str]]) -> list[str]:
    found = defaultdict(list)
    for name, form in pairs:
        found[form].append(name)
    return sorted(form for form, ways in found.items() if len(ways) > 1)

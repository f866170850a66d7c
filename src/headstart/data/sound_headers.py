"""How many bytes a file of sound should have, by its own header: decoders take a cut one for whole."""

import re


def said_size(content: bytes) -> int | None:
    """Bytes of the whole file; `None` where its header does not say, as it was written before that was known.

    (Ogg, MP3 and some formats of old computers never say.)
    """
    for magic, read in _READERS.items():
        if content.startswith(magic):
            try:
                return read(content)
            except (IndexError, ValueError):
                return None
    return None


def _number(content: bytes, start: int, length: int, order: str) -> int:
    return int.from_bytes(content[start : start + length], "little" if order == "<" else "big")


def _iff(content: bytes) -> int | None:
    """RIFF (WAV) and FORM (AIFF, SVX): what follows the first eight bytes."""
    said = 8 + _number(content, 4, 4, "<" if content[:1] == b"R" else ">")
    return None if said == 8 or said > 0x7FFFFFFF else said


def _rf64(content: bytes) -> int | None:
    said = 8 + _number(content, 20, 8, "<")
    return said if content[12:16] == b"ds64" and said > 8 else None


def _au(content: bytes) -> int | None:
    order = ">" if content[:1] == b"." else "<"
    start, size = _number(content, 4, 4, order), _number(content, 8, 4, order)
    return None if size == 0xFFFFFFFF else start + size


def _w64(content: bytes) -> int | None:
    return _number(content, 16, 8, "<") or None


def _caf(content: bytes) -> int | None:
    """Chunks of type (4 bytes) and size (8), one after the other."""
    place = 8
    while place + 12 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 12], "big", signed=True)
        if size < 0:
            return None
        place += 12 + size
    return place


def _nist(content: bytes) -> int | None:
    header = content[:1024].decode("latin-1")
    found = dict(re.findall(r"(sample_count|channel_count|sample_n_bytes) -i (\d+)", header))
    if len(found) < 3 or "sample_coding -s3 pcm" not in header:
        return None
    return int(header.split()[1]) + int(found["sample_count"]) * int(found["channel_count"]) * int(
        found["sample_n_bytes"]
    )


_READERS = {
    b"RIFF": _iff,
    b"FORM": _iff,
    b"RF64": _rf64,
    b".snd": _au,
    b"dns.": _au,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"caff": _caf,
    b"NIST_1A": _nist,
}

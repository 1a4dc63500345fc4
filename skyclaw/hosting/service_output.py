"""From the bytes that a service prints to text that has as many bytes in UTF-8, so that offsets in one are offsets in the other."""

_LONGEST = 4  # bytes of a character


def whole_characters(data: bytes) -> bytes:
    """The bytes without the beginning of a character at their end whose rest may still come."""
    for back in range(1, min(_LONGEST, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return data[:-back] if back < _length(byte) else data
        if byte < 0x80:
            break
    return data


def as_text(data: bytes) -> str:
    """The text; each byte that is not part of a character becomes a question mark."""
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isascii() else "".join("?" if "\udc80" <= char <= "\udcff" else char for char in text)


def _length(first: int) -> int:
    """How many bytes a character has that begins with this one."""
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4

"""What can happen to the bytes of a file."""

import random
import struct
import zlib
from collections.abc import Callable

PAGE = 64

Harm = Callable[[bytes, random.Random], bytes]


def png() -> bytes:
    """The smallest picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0\0")) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def flipped(whole: bytes, rng: random.Random) -> bytes:
    """One bit changed."""
    at = rng.randrange(len(whole))
    return whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]


def flipped_at_the_end(whole: bytes, rng: random.Random) -> bytes:
    """One bit changed in the last two thousand bytes: a footer, where there is one."""
    tail = min(len(whole), 2000)
    return whole[:-tail] + flipped(whole[-tail:], rng)


def truncated(whole: bytes, rng: random.Random) -> bytes:
    """Cut off somewhere."""
    return whole[: rng.randrange(len(whole))]


def zeroed(whole: bytes, rng: random.Random) -> bytes:
    """A page of zeros, as a file system leaves after a crash."""
    at = rng.randrange(max(1, len(whole) - PAGE))
    return (whole[:at] + bytes(PAGE) + whole[at + PAGE :])[: len(whole)]


BYTES: dict[str, Harm] = {
    "bit flipped": flipped,
    "bit flipped at the end": flipped_at_the_end,
    "truncated": truncated,
    "page zeroed": zeroed,
    "emptied": lambda whole, rng: b"",
    "a picture instead": lambda whole, rng: png(),
    "bytes added": lambda whole, rng: whole + rng.randbytes(7),
}


def _cell(value: bytes) -> Harm:
    """A cell of a number column in a random row, replaced."""

    def change(whole: bytes, rng: random.Random) -> bytes:
        lines = whole.split(b"\n")
        at = rng.randrange(1, len(lines) - 1)
        fields = lines[at].split(b",")
        fields[-1] = value
        return b"\n".join([*lines[:at], b",".join(fields), *lines[at + 1 :]])

    return change


def _line(change: Callable[[bytes], bytes]) -> Harm:
    """A random row changed."""

    def changed(whole: bytes, rng: random.Random) -> bytes:
        lines = whole.split(b"\n")
        at = rng.randrange(1, len(lines) - 1)
        return b"\n".join([*lines[:at], change(lines[at]), *lines[at + 1 :]])

    return changed


def cut_in_a_row(whole: bytes, rng: random.Random) -> bytes:
    """The beginning; a table that ends with a whole row is a table, and nothing can tell."""
    return truncated(whole, rng).rstrip(b"\n")[:-1].rstrip(b"\n")


TEXT: dict[str, Harm] = {
    "cut in a row": cut_in_a_row,
    "page zeroed": zeroed,
    "emptied": lambda whole, rng: b"",
    "a picture instead": lambda whole, rng: png(),
    "row too short": _line(lambda line: line.rpartition(b",")[0]),
    "row too long": _line(lambda line: line + b",1"),
    "all rows too long": lambda whole, rng: whole.replace(b"\n", b",1\n").replace(
        b",1\n", b"\n", 1
    ),
    "quote left open": _line(lambda line: b'"' + line),
    "NUL byte": _cell(b"1\0002"),
    "Latin-1": _cell(b"\xe4"),
    "UTF-16": lambda whole, rng: whole.decode().encode("utf-16"),
    "byte-order mark": lambda whole, rng: b"\xef\xbb\xbf" + whole,
    "name twice": lambda whole, rng: whole.replace(b"x", b"unit", 1),
    "letter O for a zero": _cell(b"1.O5"),
    "point for a missing value": _cell(b"."),
    "decimal comma": _cell(b"1,5"),
}


def _value(value: bytes, but: tuple[bytes, ...] = ()) -> Harm:
    """The value of a random key, replaced."""

    def change(whole: bytes, rng: random.Random) -> bytes:
        lines = whole.split(b"\n")
        at = rng.choice(
            [
                i
                for i, line in enumerate(lines)
                if b" = " in line and line.partition(b" = ")[0] not in but
            ]
        )
        key = lines[at].partition(b" = ")[0]
        return b"\n".join([*lines[:at], key + b" = " + value, *lines[at + 1 :]])

    return change


TOML: dict[str, Harm] = {
    "emptied": lambda whole, rng: b"",
    "a picture instead": lambda whole, rng: png(),
    "key twice": lambda whole, rng: whole.replace(b"n = 20\n", b"n = 20\nn = 30\n"),
    "key unknown": lambda whole, rng: whole.replace(b"units", b"unit", 1),
    "bad syntax": lambda whole, rng: whole.replace(b" = ", b" ", 1),
    "Latin-1": lambda whole, rng: whole.replace(b"unit)", b"unit)\xe4", 1),
    "true": _value(b"true"),
    "a date": _value(b"1979-05-27"),
    "NaN": _value(b"nan"),
    "10¹²": _value(b"1000000000000", but=(b"sigma",)),
    "5,000 digits": _value(b"9" * 5000),
    "nested": _value(b"[" * 3000),
}

"""Numbers, texts and arrays of a GGUF file, one after the other, within bounds.

Whatever a length or a count claims, no more is read than the file has, and no more is kept than is
of use: arrays are passed over, long texts are cut.

Source: ggml docs/gguf.md (`gguf_metadata_value_type`).
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

from sdtool.checkpoint.errors import LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.source import Source

Leaf: TypeAlias = bool | int | float | str | None

_CODES = "BbHhIif?  Qqd"
"""What `struct` calls the types, by number; 8 is a text, 9 an array."""
_TEXT, _ARRAY = 8, 9
_NAMES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
    "uint64", "int64", "float64",
)  # fmt: skip
_SHOWN = 16
"""Numbers of an array that are kept."""
_WHOLE_NBYTES = 1 << 20
"""The longest text that has to be kept whole."""
_WINDOW_NBYTES = 1 << 18


class Cursor:
    """Reads a header from its beginning; `byteorder` can be set once it is known."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.at = 0
        self.byteorder: Literal["little", "big"] = "little"
        self._limits = limits
        self._left = limits.for_file(source.nbytes).leaves
        self._window, self._start = b"", 0

    def spend(self, cost: int) -> None:
        """Count something against what a file of this size may hold.

        Raises:
            LimitExceeded: it is too much.
        """
        self._left -= cost
        if self._left < 0:
            raise LimitExceeded(
                "more tensors and values than a file of its size can have", where=self.source.name
            )

    def expect(self, count: int, nbytes: int) -> None:
        """Check that there is room for `count` things of at least `nbytes` bytes.

        Raises:
            Truncated: the file ends first.
        """
        if count * nbytes > self.source.nbytes - self.at:
            self._too_short(count * nbytes)

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes, all of them.

        Raises:
            Truncated: the file ends first.
            LimitExceeded: the header is longer than any.
        """
        at = self.at
        self.skip(nbytes)
        begin = at - self._start
        if not 0 <= begin <= begin + nbytes <= len(self._window):
            self._start, begin = at, 0
            self._window = self.source.read_at(at, max(nbytes, _WINDOW_NBYTES))
        data = self._window[begin : begin + nbytes]
        if len(data) != nbytes:
            self._too_short(0)
        return data

    def skip(self, nbytes: int) -> None:
        """Pass over bytes.

        Raises:
            Truncated: the file ends first.
            LimitExceeded: the header is longer than any.
        """
        if nbytes > self.source.nbytes - self.at:
            self._too_short(nbytes)
        self.at += nbytes
        if self.at > self._limits.header_nbytes:
            raise LimitExceeded(
                f"a header of more than {self._limits.header_nbytes:,} bytes",
                where=self.source.name,
            )

    def number(self, nbytes: int) -> int:
        """Return the next whole number, which has no sign."""
        return int.from_bytes(self.take(nbytes), self.byteorder)

    def name(self, what: str) -> str:
        """Return the next text, which has to be one and not too long: a key, a tensor's name.

        Raises:
            Malformed: it is not UTF-8; the message names `what` it is.
            LimitExceeded: it is too long.
        """
        nbytes = self.number(8)
        self.expect(nbytes, 1)
        if nbytes > self._limits.inline_nbytes:
            raise LimitExceeded(f"{what} of {nbytes:,} bytes", where=self.source.name)
        try:
            return self.take(nbytes).decode()
        except UnicodeDecodeError as e:
            raise Malformed(f"{what} is not UTF-8", where=self.source.name) from e

    def value(self, kind: int, *, is_whole: bool = False) -> Leaf:
        """Return the next value of a type: numbers and texts as they are, arrays in words.

        With `is_whole` a text is not cut.

        Raises:
            Malformed: there is no such type.
            LimitExceeded: a text that is not to be cut is too long, or arrays are too deep.
        """
        if kind == _TEXT:
            return self._text(is_whole=is_whole)
        if kind == _ARRAY:
            return self._array(self._limits.nesting)
        return self._numbers(kind, 1)[0]

    def _text(self, *, is_whole: bool) -> str:
        nbytes = self.number(8)
        self.expect(nbytes, 1)
        kept = min(nbytes, _WHOLE_NBYTES if is_whole else self._limits.inline_nbytes)
        if is_whole and kept < nbytes:
            raise LimitExceeded(f"a chat template of {nbytes:,} bytes", where=self.source.name)
        text = self.take(kept).decode("utf-8", "backslashreplace")
        self.skip(nbytes - kept)
        return text if kept == nbytes else f"{text}..."

    def _array(self, depth: int) -> str:
        """Pass over an array and say in words what it is; short ones of numbers are shown."""
        kind, count = self.number(4), self.number(8)
        if kind == _TEXT:
            self.expect(count, 8)
            for _ in range(count):
                self.spend(1)
                self.skip(self.number(8))
        elif kind == _ARRAY:
            if not depth:
                raise LimitExceeded("arrays nested too deeply", where=self.source.name)
            self.expect(count, 12)
            for _ in range(count):
                self.spend(1)
                self._array(depth - 1)
        elif count <= _SHOWN:
            return f"[{', '.join(map(str, self._numbers(kind, count)))}]"
        else:
            nbytes = struct.calcsize(self._code(kind))
            self.expect(count, nbytes)
            self.skip(count * nbytes)
        return f"{count:,} of {_NAMES[kind]}"

    def _numbers(self, kind: int, count: int) -> tuple[bool | int | float, ...]:
        layout = f"{'>' if self.byteorder == 'big' else '<'}{count}{self._code(kind)}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def _code(self, kind: int) -> str:
        code = _CODES[kind : kind + 1].strip()
        if not code:
            raise Malformed(f"a value of the unknown type {kind}", where=self.source.name)
        return code

    def _too_short(self, nbytes: int) -> None:
        raise Truncated(
            f"the file ends in the middle of its header ({self.source.nbytes:,} bytes;"
            f" {self.at + nbytes:,} needed)",
            where=self.source.name,
            hint="download it again and compare its size with the one published",
        )

"""Keys of dicts: which two are one to Python, and what they are called inside a flat name."""

from __future__ import annotations

from sdtool.checkpoint.values import Extent, Global, Instance, Py2Bytes, Value

_SHOWN_NBYTES = 60


def text_of(key: Value) -> str | None:
    """The text that a key is: a string, or an integer in digits. None for any other key.

    A python 2 string is what torch makes of it, the text that its bytes are in UTF-8.
    """
    if type(key) is str:
        return key
    if type(key) is int:
        return str(key) if key.bit_length() < 1024 else None
    if type(key) is Py2Bytes:
        try:
            return str(key, "utf-8")
        except UnicodeDecodeError:
            return None
    return None


def key_name(key: Value) -> str:
    """What a key is called where a person reads it; two keys may be called the same."""
    text = text_of(key)
    if text is not None:
        return text
    if key is None or type(key) in (bool, float):
        return str(key)
    if type(key) is int:
        return "a huge number"
    if type(key) is Global:
        return str(key)
    if type(key) is tuple:
        parts = ("(...)" if type(part) is tuple else key_name(part) for part in key)
        return "(" + ", ".join(parts) + ")"
    if isinstance(key, bytes):
        return repr(bytes(key[:_SHOWN_NBYTES]))
    if type(key) is Extent:
        return f"<{key.nbytes:,} bytes at offset {key.offset:,}>"
    if type(key) is Instance and type(key.target) is Global:
        return f"<{key.target} at offset {key.offset:,}>"
    return f"<{type(key).__name__}>"


def is_text(key: Value) -> bool:
    """Whether a key can stand in the name of a tensor."""
    return type(key) is str or text_of(key) is not None


def what_it_is(key: Value) -> str:
    """A key that is no text, in words."""
    if type(key) is Extent:
        return f"text of {key.nbytes:,} bytes" if key.is_text else f"{key.nbytes:,} bytes"
    if type(key) is Py2Bytes:
        return "a python 2 string that is not UTF-8"
    if type(key) is Instance:
        return f"made by {key_name(key.target)}"
    if key is None:
        return "None"
    if type(key) is Global:
        return f"the class {key}"
    return {bool: "a bool", float: "a float", tuple: "a tuple", int: "a huge number"}.get(
        type(key), type(key).__name__
    )


def same_key(key: Value) -> object:
    """Something that is equal for two keys exactly if Python takes them for one.

    1, 1.0 and True are one key; `"1"` is another. Keys with content of their own (a tuple, an
    object) are told apart by identity.
    """
    kind = type(key)
    if kind is str:
        return (str, key)
    if kind is Py2Bytes:
        text = text_of(key)
        return (bytes, bytes(key)) if text is None else (str, text)
    if kind in (bytes, Global):
        return (kind, key)
    return key if kind in (int, bool, float) or key is None else (kind, id(key))

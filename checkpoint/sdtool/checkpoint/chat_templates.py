"""Which values of a GGUF file are chat templates: programs in Jinja, as text.

Source: ggml docs/gguf.md (`tokenizer.chat_template`); llama.cpp src/llama-model.cpp
(`llama_model_chat_template`: one with a name behind a dot).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_KEY = "tokenizer.chat_template"


def is_template(key: str) -> bool:
    """Whether what a file has under `key` is a chat template: the one, or one with a name."""
    return key == _KEY or key.startswith(f"{_KEY}.")


def templates_in(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the chat templates among the values of a file, with their keys."""
    for key, value in values.items():
        if is_template(key) and type(value) is str:
            yield key, value

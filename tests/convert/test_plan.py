"""The header is what safetensors itself would write, to the byte."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from tests.convert.samples import DTYPES

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import LimitExceeded, Malformed, Unsupported
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert import Selected, Selection, plan_safetensors, select_all, select_parts
from sdtool.convert.plan.header import ORDER
from sdtool.convert.plan.repeated import repeated


def entry_of(name: str, dtype: str = "float32", shape: tuple[int, ...] = (2,)) -> TensorEntry:
    """A tensor that stands in no file."""
    kind = BY_NAME[dtype]
    nbytes = kind.itemsize
    for size in shape:
        nbytes *= size
    stride = tuple(torch.empty(shape, device="meta").stride())
    storage = Storage("0", Memory(bytes(nbytes), "memory"), 0, nbytes)
    return TensorEntry((name,), name, kind, shape, stride, 0, storage)


def selection_of(*entries: TensorEntry) -> Selection:
    return Selection(tuple(Selected(e.name, e, e.dtype) for e in entries), {"format": "pt"})


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.dictionaries(names, st.tuples(st.sampled_from(DTYPES), shapes), max_size=8))
def test_header_and_order_are_those_of_save_file(
    tensors: dict[str, tuple[str, tuple[int, ...]]],
) -> None:
    state = {
        name: torch.zeros(shape, dtype=getattr(torch, dtype))
        for name, (dtype, shape) in tensors.items()
    }
    expected = save(state, {"format": "pt"})
    plan = plan_safetensors(selection_of(*(entry_of(n, d, s) for n, (d, s) in tensors.items())))
    assert (
        len(plan.header).to_bytes(8, "little") + plan.header + bytes(plan.data_nbytes) == expected
    )
    assert plan.nbytes == len(expected)


def test_every_dtype_that_has_a_name_has_a_place_in_the_order() -> None:
    assert {d.safetensors for d in BY_NAME.values() if d.safetensors} <= set(ORDER)


def test_metadata_keys_are_sorted_and_stand_first() -> None:
    plan = plan_safetensors(Selection(selection_of(entry_of("a")).entries, {"z": "1", "b": "2"}))
    assert plan.header.startswith(b'{"__metadata__":{"b":"2","z":"1"},"a":')
    assert len(plan.header) % 8 == 0


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_no_reader_would_accept(name: str) -> None:
    with pytest.raises(Malformed):
        plan_safetensors(selection_of(entry_of(name)))


def test_a_collision_shows_both() -> None:
    a, b = entry_of("a.b"), entry_of("a.b")
    with pytest.raises(Malformed) as caught:
        plan_safetensors(selection_of(a, b))
    assert "a.b" in caught.value.what and "and" in str(caught.value)


def test_a_header_over_the_limit_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        plan_safetensors(Selection((), {"k": "x" * 100_000_001}))


def test_the_header_of_a_plan_that_is_written_in_another_order_is_the_same() -> None:
    entries = [entry_of("b", "int8", (0,)), entry_of("a", "float64", (1,)), entry_of("c", "int8")]
    plan = plan_safetensors(Selection(selection_of(*entries).entries, {"k": "v"}))
    turned = replace(plan, tensors=plan.tensors[::-1])
    assert turned.header == plan.header
    assert b"".join(turned.header_pieces({"k": "w"})) == plan.header.replace(b'"v"', b'"w"')


def test_a_long_header_is_that_of_save_file_in_pieces() -> None:
    state = {f"layer.{i}.é\n": torch.zeros(i % 3) for i in range(2_000)}
    plan = plan_safetensors(
        selection_of(*(entry_of(name, "float32", (len(t),)) for name, t in state.items()))
    )
    pieces = list(plan.header_pieces())
    assert len(pieces) > 1
    assert b"".join(pieces) == save(state, {"format": "pt"})[8 : plan.data_offset]


def test_what_comes_more_than_once() -> None:
    many = [-3, 7, 1 << 62, 7, -3, 7, *range(1_000, 2_000)]
    assert repeated(many) == {-3, 7}
    assert repeated([]) == set()


def test_complex128_is_refused_by_name_with_advice(tmp_path: Path) -> None:
    torch.save(
        {"good": torch.ones(2), "bad": torch.ones(2, dtype=torch.complex128)}, tmp_path / "x"
    )
    with open_checkpoint(tmp_path / "x") as checkpoint:
        with pytest.raises(Unsupported) as caught:
            select_all(checkpoint)
        assert caught.value.where == "bad"
        assert caught.value.hint is not None and "complex64" in caught.value.hint
        kept = select_all(checkpoint, skip_unsupported=True)
    assert [s.name for s in kept.entries] == ["good"]
    assert [(left.name, left.nbytes, left.reason) for left in kept.left_out] == [
        ("bad", 32, "complex128")
    ]
    assert kept.metadata["sdtool.left_out"] == '["bad"]'


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantized_sparse_and_meta_are_refused_by_name(tmp_path: Path) -> None:
    for name, tensor in {
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.empty(2, device="meta"),
    }.items():
        torch.save({name: tensor, "w": torch.ones(1)}, tmp_path / name)
        with open_checkpoint(tmp_path / name) as checkpoint:
            with pytest.raises(Unsupported, match=name):
                select_all(checkpoint)
            kept = select_all(checkpoint, skip_unsupported=True)
        assert [s.name for s in kept.entries] == ["w"]


def test_what_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "x")
    with open_checkpoint(tmp_path / "x") as checkpoint, pytest.raises(Unsupported):
        select_all(checkpoint)


def test_leaves_become_flat_strings(tmp_path: Path) -> None:
    state = {
        "state_dict": {"w": torch.ones(1)},
        "global_step": 470000,
        "epoch": 6,
        "name": "my style",
        "json": '{"x": 1}',
        "flag": True,
        "nothing": None,
        "huge": 1 << 20000,
        "nan": float("nan"),
        "rate": 0.5,
        "surrogate": "\ud800",
        "hyper_parameters": {"lr": 1.0},
    }
    torch.save(state, tmp_path / "x")
    with open_checkpoint(tmp_path / "x") as checkpoint:
        metadata = select_all(checkpoint).metadata
    assert metadata == {
        "format": "pt",
        "global_step": "470000",
        "epoch": "6",
        "name": "my style",
        "flag": "true",
        "rate": "0.5",
    }
    assert json.loads(json.dumps(dict(metadata))) == metadata


def test_an_embedding_is_called_emb_params(tmp_path: Path) -> None:
    vector = torch.randn(4, 768)
    torch.save(
        {"string_to_token": {"*": 265}, "string_to_param": {"*": vector}, "name": "s", "step": 9},
        tmp_path / "x.pt",
    )
    with open_checkpoint(tmp_path / "x.pt") as checkpoint:
        selection = select_all(checkpoint)
    assert [s.name for s in selection.entries] == ["emb_params"]
    assert selection.metadata == {"format": "pt", "name": "s", "step": "9"}


def test_an_embedding_of_several_tokens_is_several_outputs(tmp_path: Path) -> None:
    params = {"<a>": torch.ones(1, 768), "<b>": torch.zeros(1, 768)}
    torch.save({"string_to_token": {}, "string_to_param": params}, tmp_path / "x.pt")
    with open_checkpoint(tmp_path / "x.pt") as checkpoint:
        parts = select_parts(checkpoint)
        with pytest.raises(Unsupported, match="2 embeddings"):
            select_all(checkpoint)
    assert [token for token, _ in parts] == ["<a>", "<b>"]
    assert [[s.name for s in part.entries] for _, part in parts] == [["emb_params"]] * 2


def test_a_diffusers_embedding_keeps_its_token(tmp_path: Path) -> None:
    torch.save({"<cat-toy>": torch.ones(768)}, tmp_path / "x.bin")
    with open_checkpoint(tmp_path / "x.bin") as checkpoint:
        assert [s.name for s in select_all(checkpoint).entries] == ["<cat-toy>"]


def test_aliases_are_named() -> None:
    a = entry_of("a")
    b = TensorEntry(("b",), "b", a.dtype, a.shape, a.stride, 0, a.storage)
    notes = plan_safetensors(selection_of(a, b, entry_of("c"))).notes
    assert notes == ("a = b: one tensor in the input, written 2 times",)


def test_the_plan_of_the_same_input_is_the_same() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.save({f"w{i}": torch.ones(i) for i in range(20)}, Path(folder) / "x")
        headers: set[bytes] = set()
        for _ in range(3):
            with open_checkpoint(Path(folder) / "x") as checkpoint:
                headers.add(plan_safetensors(select_all(checkpoint)).header)
    assert len(headers) == 1

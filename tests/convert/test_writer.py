"""Outputs equal what torch reads from the input, and what safetensors would have written of it."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.convert.samples import (
    DTYPES,
    convert,
    every_dtype,
    random_tensor,
    rewritten,
    saved_by_safetensors,
)
from tests.tensor_values import raw_bytes

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import Malformed, OutputError, Truncated, UsageError
from sdtool.convert import plan_safetensors, select_all, write_safetensors
from sdtool.convert.elements.row_major import row_major_chunks
from sdtool.convert.write.safetensors_file import Written, write_together

pytestmark = pytest.mark.usefixtures("both_ways")

NEGATED: Callable[[torch.Tensor], torch.Tensor] = vars(torch)["_neg_view"]  # sets the neg bit only


@pytest.mark.parametrize("is_zip", [True, False])
def test_byte_identical_with_save_file(tmp_path: Path, is_zip: bool) -> None:
    state = every_dtype()
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
    expected = saved_by_safetensors(state, tmp_path / "ref.safetensors")
    written = convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == expected
    assert (written.nbytes, written.tensors) == (len(expected), len(state))


def test_safetensors_to_safetensors_keeps_metadata_that_is_still_true(tmp_path: Path) -> None:
    state = every_dtype()
    save_file(state, tmp_path / "in.safetensors", {"ss_tag_frequency": '{"a": 1}', "format": "pt"})
    convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as out:
        assert out.metadata() == {"ss_tag_frequency": '{"a": 1}', "format": "pt"}
        for name, tensor in state.items():
            assert raw_bytes(out.get_tensor(name)) == raw_bytes(tensor), name


def strided() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    base = torch.randn(7, 5, 3)
    shared = torch.arange(24, dtype=torch.int32)
    return {
        "transposed": base.permute(2, 0, 1),
        "stepped": base[::2, :, ::2],
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "expanded.scalar": torch.tensor(7, dtype=torch.int64).expand(4, 4),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "view.a": shared[2:10],
        "view.b": shared[6:24].view(3, 6),
        "view.overlapping": shared.as_strided((5, 4), (2, 1), 3),
        "bytes": torch.arange(12, dtype=torch.uint8).view(3, 4).t(),
        "halves": torch.randn(6, 4).half().t(),
        "bf": torch.randn(6, 4).bfloat16().t(),
        "wide": torch.randn(3, 4, dtype=torch.float64).t(),
        "complex": torch.randn(3, 4, dtype=torch.complex64).t(),
        "conj": torch.randn(3, 4, dtype=torch.complex64).conj(),
        "conj.t": torch.randn(3, 4, dtype=torch.complex64).t().conj(),
        "neg": NEGATED(torch.randn(5)),
        "neg.int": NEGATED(torch.tensor([0, 5, -(2**31)], dtype=torch.int32)),
        "imag.of.conj": torch.randn(4, dtype=torch.complex64).conj().imag,
        "empty.strided": torch.zeros(4, 0, 2).permute(2, 1, 0),
        "scalar.of.many": shared[5],
    }


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("chunk_nbytes", [1 << 20, 16])
def test_strided_conj_neg_and_overlapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_zip: bool, chunk_nbytes: int
) -> None:
    monkeypatch.setattr("sdtool.convert.copy.buffered.CHUNK_NBYTES", chunk_nbytes)
    state = strided()
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
    convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    plain = {name: t.resolve_conj().resolve_neg().contiguous().clone() for name, t in state.items()}
    expected = saved_by_safetensors(plain, tmp_path / "ref.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == expected


@pytest.mark.parametrize("without_numpy", [False, True])
def test_blocks_of_a_strided_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_numpy: bool
) -> None:
    if without_numpy:
        monkeypatch.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)
    torch.save(strided(), tmp_path / "x.ckpt")
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        for entry in checkpoint.tensors:
            expected = raw_bytes(strided()[entry.name])
            for chunk_nbytes in (8, 24, 100, 1 << 20):
                found = b"".join(map(bytes, row_major_chunks(entry, None, chunk_nbytes)))
                assert found == expected, (entry.name, chunk_nbytes)


def test_big_endian(tmp_path: Path) -> None:
    state = {k: v for k, v in every_dtype().items() if "e8m0" not in k} | strided()
    torch.save(state, tmp_path / "little.ckpt")
    with open_checkpoint(tmp_path / "little.ckpt") as checkpoint:
        swaps = {e.storage.key: e.dtype.swap for e in checkpoint.tensors}

    def swapped(name: str, data: bytes) -> bytes:
        folder, _, last = name.rpartition("/")
        if last == "byteorder":
            return b"big"
        if not folder.endswith("/data"):
            return data
        size = swaps[last]
        return b"".join(data[i : i + size][::-1] for i in range(0, len(data), size))

    rewritten(tmp_path / "little.ckpt", tmp_path / "big.ckpt", swapped)
    convert(tmp_path / "little.ckpt", tmp_path / "little.safetensors")
    convert(tmp_path / "big.ckpt", tmp_path / "big.safetensors")
    little = (tmp_path / "little.safetensors").read_bytes()
    assert (tmp_path / "big.safetensors").read_bytes() == little


def test_deflated_archives(tmp_path: Path) -> None:
    state = every_dtype() | strided() | {"long": torch.arange(700_001, dtype=torch.int32)}
    torch.save(state, tmp_path / "x.ckpt")
    rewritten(tmp_path / "x.ckpt", tmp_path / "z.ckpt", lambda _, data: data, zipfile.ZIP_DEFLATED)
    convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    convert(tmp_path / "z.ckpt", tmp_path / "z.safetensors")
    expected = (tmp_path / "x.safetensors").read_bytes()
    assert (tmp_path / "z.safetensors").read_bytes() == expected


def test_shared_tensors_are_written_once_each(tmp_path: Path) -> None:
    shared = torch.randn(4, 4)
    torch.save({"a": shared, "b": shared, "c": shared[1]}, tmp_path / "x.ckpt")
    written = convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    out = load_file(tmp_path / "x.safetensors")
    assert torch.equal(out["a"], shared) and torch.equal(out["b"], shared)
    assert torch.equal(out["c"], shared[1])
    assert written.notes == ("a = b: one tensor in the input, written 2 times",)


def flip(path: Path, where: Callable[[bytes], int]) -> None:
    raw = bytearray(path.read_bytes())
    raw[where(bytes(raw))] ^= 1
    path.write_bytes(raw)


def test_a_record_that_does_not_match_its_crc_is_refused_by_tensor(tmp_path: Path) -> None:
    marked = torch.full((1000,), 3.25)
    torch.save({"good": torch.ones(3), "bad.weight": marked}, tmp_path / "x.ckpt")
    at = raw_bytes(marked[:4])
    flip(tmp_path / "x.ckpt", lambda raw: raw.index(at) + 999)
    with pytest.raises(Malformed, match=r"bad\.weight.*CRC-32"):
        convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_damage_in_a_part_that_no_tensor_shows_is_found_too(tmp_path: Path) -> None:
    base = torch.full((1000,), 3.25)
    torch.save({"part": base[:3]}, tmp_path / "x.ckpt")
    flip(tmp_path / "x.ckpt", lambda raw: raw.index(raw_bytes(base[:4])) + 2000)
    with pytest.raises(Malformed, match="part"):
        convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")


def test_checksums_that_were_never_written_are_no_error(tmp_path: Path) -> None:
    state = {"w": torch.randn(10), "b": torch.ones(3)}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "x.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(out[name], tensor) for name, tensor in state.items())


def test_a_cut_legacy_file_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(999)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    raw = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(raw[:-100])
    with pytest.raises(Truncated):
        convert(tmp_path / "x.pth", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.ckpt")
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        convert(tmp_path / "x.ckpt", out)
    assert out.read_text() == "precious"
    convert(tmp_path / "x.ckpt", out, force=True)
    assert torch.equal(load_file(out)["w"], torch.ones(2))


def test_the_output_is_never_the_input(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "link.safetensors").symlink_to("x.safetensors")
    for name in ("x.safetensors", "link.safetensors"):
        with pytest.raises(UsageError, match="is the input"):
            convert(tmp_path / "x.safetensors", tmp_path / name, force=True)
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_progress_counts_every_byte_of_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(700_000), "b": torch.ones(5)}, tmp_path / "x.ckpt")
    steps: list[int] = []
    convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors", progress=steps.append)
    assert sum(steps) == 700_005 * 4


def test_a_plain_copy_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.ckpt")
    code = (
        "import sys; from sdtool.convert import convert_unjudged;"
        "convert_unjudged('x.ckpt', 'out.safetensors', hashes=True, verify=True);"
        "print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.save({f"w{i}": torch.randn(100) for i in range(50)} | {"epoch": 1}, tmp_path / "x.ckpt")
    for name in ("a", "b"):
        convert(tmp_path / "x.ckpt", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_large_tensors_without_checksums_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdtool.convert.copy.jobs._SPLIT_NBYTES", 1000)
    monkeypatch.setattr("sdtool.convert.copy.buffered.CHUNK_NBYTES", 96)
    state = {"w": torch.randn(12345), "h": torch.randn(777).half()}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    expected = saved_by_safetensors(state, tmp_path / "ref.safetensors")
    with open_checkpoint(tmp_path / "x.pth") as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        write_safetensors(plan, tmp_path / "out.safetensors", hashes=True)
    assert (tmp_path / "out.safetensors").read_bytes() == expected


@pytest.mark.parametrize("has_crc32", [True, False])
def test_a_record_shorter_than_declared_is_refused(tmp_path: Path, has_crc32: bool) -> None:
    torch.save({"w": torch.ones(1000), "next": torch.ones(1000)}, tmp_path / "x.ckpt")

    def cut(name: str, data: bytes) -> bytes:
        return data[:400] if name.endswith("data/0") else data

    path = rewritten(tmp_path / "x.ckpt", tmp_path / "short.ckpt", cut)
    if not has_crc32:
        with zipfile.ZipFile(path) as archive:
            known = {info.CRC for info in archive.infolist()}
        raw = path.read_bytes()
        for crc in known:
            raw = raw.replace(struct.pack("<I", crc), bytes(4))
        path.write_bytes(raw)
    with pytest.raises(Malformed, match="holds 400 bytes and is declared to hold 4,000"):
        convert(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_random_state_dicts_are_byte_identical(tmp_path: Path) -> None:
    """Random shapes, views, sharing and types; zip and legacy; small chunks find every edge."""
    choice = random.Random(11)
    for i in range(40):
        torch.manual_seed(i)
        state: dict[str, torch.Tensor] = {}
        for n in range(choice.randint(1, 8)):
            shape = [choice.randint(0, 5) for _ in range(choice.randint(0, 4))]
            tensor = random_tensor(choice.choice(DTYPES), *shape)
            if shape and choice.random() < 0.5:
                tensor = tensor.permute(choice.sample(range(len(shape)), len(shape)))
                tensor = tensor[:: choice.randint(1, 2)]
            state[f"{choice.choice('abc')}.{n}"] = tensor
            if choice.random() < 0.3:
                state[f"alias.{n}"] = tensor
        path = tmp_path / f"{i}.ckpt"
        torch.save(state, path, _use_new_zipfile_serialization=choice.random() < 0.5)
        convert(path, tmp_path / f"{i}.safetensors")
        plain = {name: tensor.contiguous().clone() for name, tensor in state.items()}
        expected = saved_by_safetensors(plain, tmp_path / "ref.safetensors")
        assert (tmp_path / f"{i}.safetensors").read_bytes() == expected, i


def test_files_written_together_are_those_written_alone(tmp_path: Path) -> None:
    """Several plans of one checkpoint, one of which cannot be: the others are as if alone."""
    state = {n: t for n, t in every_dtype().items() if t.dtype is not torch.float64}
    state |= {"large": torch.tensor([1.0, 1e6]), "odd": torch.tensor([torch.nan])}
    torch.save(state, tmp_path / "x.ckpt")
    dtypes = ("keep", "bf16", "fp16")
    seen: list[tuple[str, bool]] = []
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        plans = {d: plan_safetensors(select_all(checkpoint, dtype=d)) for d in dtypes}
        for d in ("keep", "bf16"):
            write_safetensors(plans[d], tmp_path / f"alone-{d}.safetensors")
        outs = {tmp_path / f"{d}.safetensors": plans[d] for d in dtypes}
        done = write_together(
            outs,
            hashes=True,
            nonfinite=True,
            check=lambda out, partial: seen.append((out.name, partial.exists() > out.exists())),
        )
    for d in ("keep", "bf16"):
        found, out = (tmp_path / f"{d}.safetensors").read_bytes(), tmp_path / f"{d}.safetensors"
        assert found == (tmp_path / f"alone-{d}.safetensors").read_bytes()
        written = done[out]
        assert isinstance(written, Written)
        assert written.hashes is not None
        assert written.hashes.sha256 == hashlib.sha256(found).hexdigest()
        assert written.nonfinite["odd"] == (1, 0)
    refused = done[tmp_path / "fp16.safetensors"]
    assert isinstance(refused, OutputError)
    assert "large" in str(refused)
    assert seen == [("keep.safetensors", True), ("bf16.safetensors", True)]
    assert {p.name for p in tmp_path.iterdir()} == {
        "x.ckpt", "keep.safetensors", "bf16.safetensors",
        "alone-keep.safetensors", "alone-bf16.safetensors",
    }  # fmt: skip

"""Our torch files: read back by torch's restricted loader, by zipfile, and by our own scan."""

from __future__ import annotations

import hashlib
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.convert.samples import every_dtype
from tests.tensor_values import raw_bytes

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import Malformed, Unsupported
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert import Selected, Selection, Target, Written, convert_unjudged, select_all
from sdtool.convert.write.pt_file import PtPlan, directory_bytes, local_header, plan_pt, write_pt
from sdtool.scan import scan_file


def to_pt(source: Path, out: Path) -> Written:
    return convert_unjudged(source, out, to="pt")


def same(found: Any, expected: Any) -> bool:
    """Equal in structure, types, order of keys and bits of tensors."""
    if isinstance(expected, torch.Tensor):
        return (
            found.dtype == expected.dtype
            and found.shape == expected.shape
            and raw_bytes(found) == raw_bytes(expected)
        )
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, (list, tuple)):
        return type(found) is type(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


@pytest.mark.parametrize("mmap", [False, True])
def test_every_dtype_comes_back(tmp_path: Path, mmap: bool) -> None:
    state = every_dtype() | {"c128": torch.randn(3, dtype=torch.complex128)}
    torch.save(state, tmp_path / "x.ckpt")
    to_pt(tmp_path / "x.ckpt", tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt", weights_only=True, mmap=mmap), state)


def test_the_way_back_from_safetensors(tmp_path: Path) -> None:
    lora = {"lora_unet_x.lora_up.weight": torch.randn(4, 2).half()}
    full = {"model.diffusion_model.out.0.weight": torch.randn(4), "betas": torch.rand(3)}
    for state, wrapped in ((lora, lora), (full, {"state_dict": full})):
        save_file(state, tmp_path / "x.safetensors")
        to_pt(tmp_path / "x.safetensors", tmp_path / "out.pt")
        loaded = torch.load(tmp_path / "out.pt", weights_only=True)
        assert loaded.keys() == wrapped.keys()
        weights = loaded.get("state_dict", loaded)
        assert all(same(weights[name], tensor) for name, tensor in state.items())
        (tmp_path / "out.pt").unlink()


def test_a_training_checkpoint_keeps_its_wrapper_and_counters(tmp_path: Path) -> None:
    state = {
        "epoch": 6,
        "global_step": 470000,
        "state_dict": {"betas": torch.rand(4), "model.w": torch.randn(2, 2).t()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(9)}}}],
    }
    torch.save(state, tmp_path / "x.ckpt")
    to_pt(tmp_path / "x.ckpt", tmp_path / "out.pt")
    del state["optimizer_states"]
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), state)


HYPERNETWORK = {
    "step": 5000,
    "name": "style",
    768: (
        {"linear.0.weight": torch.randn(8, 4), "linear.0.bias": torch.zeros(8)},
        {"linear.0.weight": torch.randn(8, 4), "linear.0.bias": torch.zeros(8)},
    ),
    320: ({"linear.0.weight": torch.randn(2, 2)}, {"linear.0.weight": torch.randn(2, 2)}),
    "layer_structure": [1, 2, 1],
    "activation_func": "swish",
    "is_layer_norm": False,
    "weight_initialization": "Normal",
    "sd_checkpoint": None,
    "dropout_structure": [0, 0.3, 0],
    "optional_info": "",
    "large": -(1 << 70),
    "small": -5,
    "medium": 70000,
}


def test_a_hypernetwork_keeps_ints_tuples_and_settings(tmp_path: Path) -> None:
    torch.save(HYPERNETWORK, tmp_path / "hn.pt")
    convert_unjudged(tmp_path / "hn.pt", tmp_path / "out.pt")  # .pt is the default for its kind
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), HYPERNETWORK)


def test_an_embedding_keeps_its_structure(tmp_path: Path) -> None:
    state = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": {"*": torch.randn(2, 768)},
        "name": "x",
        "step": 4999,
    }
    torch.save(state, tmp_path / "ti.pt")
    to_pt(tmp_path / "ti.pt", tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), state)


def test_the_archive_is_whole_and_aligned(tmp_path: Path) -> None:
    torch.save(every_dtype(), tmp_path / "x.ckpt")
    written = to_pt(tmp_path / "x.ckpt", tmp_path / "out.pt")
    raw = (tmp_path / "out.pt").read_bytes()
    assert len(raw) == written.nbytes
    with zipfile.ZipFile(tmp_path / "out.pt") as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            names = struct.unpack_from("<HH", raw, info.header_offset + 26)
            assert (info.header_offset + 30 + sum(names)) % 64 == 0
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"


def test_our_own_scan_finds_nothing_in_it(tmp_path: Path) -> None:
    torch.save(HYPERNETWORK, tmp_path / "hn.pt")
    torch.save(every_dtype(), tmp_path / "x.ckpt")
    for name in ("hn.pt", "x.ckpt"):
        to_pt(tmp_path / name, tmp_path / f"out-{name}")
        report = scan_file(tmp_path / f"out-{name}")
        assert (report.verdict.value, report.findings) == ("clean", ())


def test_it_names_nothing_but_what_tensors_need(tmp_path: Path) -> None:
    torch.save(every_dtype(), tmp_path / "x.ckpt")
    to_pt(tmp_path / "x.ckpt", tmp_path / "out.pt")
    with zipfile.ZipFile(tmp_path / "out.pt") as archive:
        data = archive.read("archive/data.pkl")
    names = {str(arg) for code, arg, _ in pickletools.genops(data) if code.name == "GLOBAL"}
    assert {name for name in names if not name.endswith("Storage") and " float8" not in name} == {
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "collections OrderedDict",
        "torch uint16",
        "torch uint32",
        "torch uint64",
    }


def test_many_keys_come_in_batches(tmp_path: Path) -> None:
    state = {f"w{i}": torch.tensor(float(i)) for i in range(2500)}
    torch.save(state, tmp_path / "x.ckpt")
    to_pt(tmp_path / "x.ckpt", tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), state)


def test_casts_and_hashes(tmp_path: Path) -> None:
    state = {"w": torch.randn(4, 4)}
    torch.save(state, tmp_path / "x.ckpt")
    written = convert_unjudged(
        tmp_path / "x.ckpt", tmp_path / "out.pt", to="pt", dtype="fp16", hashes=True, verify=True
    )
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), {"w": state["w"].half()})
    assert written.hashes is not None
    digest = hashlib.sha256((tmp_path / "out.pt").read_bytes()).hexdigest()
    assert written.hashes.sha256 == digest and written.hashes.data_sha256 is None


def sparse_plan(*sizes: int) -> PtPlan:
    """A plan for tensors of that many bytes, which stand in no file."""
    entries: list[Selected] = []
    for i, nbytes in enumerate(sizes):
        storage = Storage(str(i), Memory(b"", "nowhere"), 0, nbytes)
        shape = (nbytes,)
        entry = TensorEntry((f"w{i}",), f"w{i}", BY_NAME["uint8"], shape, (1,), 0, storage)
        entries.append(Selected(f"w{i}", entry, entry.dtype))
    with open_checkpoint_of_nothing() as checkpoint:
        return plan_pt(checkpoint, Selection(tuple(entries)))


def open_checkpoint_of_nothing() -> Checkpoint:
    return open_checkpoint(Memory(struct.pack("<Q", 2) + b"{}", "nothing.safetensors"))


def test_zip64_headers_of_more_than_4_gib(tmp_path: Path) -> None:
    """Only the headers are written, into a sparse file: zipfile reads sizes and offsets back."""
    plan = sparse_plan(5 << 30, 100, 3 << 30)
    checksums = {record.name: 7 for record in plan.records}
    with (tmp_path / "big.pt").open("wb") as file:
        for record in plan.records:
            file.seek(record.header_offset)
            file.write(local_header(record, 7))
            assert file.tell() == record.offset and record.offset % 64 == 0
            file.write(record.content or b"")
        file.seek(plan.directory_offset)
        file.write(directory_bytes(plan, checksums))
        assert file.tell() == plan.nbytes
    with zipfile.ZipFile(tmp_path / "big.pt") as archive:
        found = {i.filename: (i.header_offset, i.file_size, i.CRC) for i in archive.infolist()}
    expected = {r.name: (r.header_offset, r.nbytes, 7) for r in plan.records}
    assert found == expected
    reader: Any = vars(torch)["_C"].PyTorchFileReader(str(tmp_path / "big.pt"))
    for key, nbytes in (("0", 5 << 30), ("2", 3 << 30)):
        record = next(r for r in plan.records if r.name == f"archive/data/{key}")
        assert reader.get_record_offset(f"data/{key}") == record.offset
        assert record.nbytes == nbytes


def test_more_than_65535_records(tmp_path: Path) -> None:
    plan = sparse_plan(*[0] * 66_000)
    with open(tmp_path / "many.pt", "wb") as file:
        for record in plan.records:
            file.seek(record.header_offset)
            file.write(local_header(record, 0))
        file.seek(plan.directory_offset)
        file.write(directory_bytes(plan, {}))
    with zipfile.ZipFile(tmp_path / "many.pt") as archive:
        assert len(archive.infolist()) == 66_003


def test_colliding_names_and_missing_values_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "m": torch.empty(2, device="meta")}, tmp_path / "x.ckpt")
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        with pytest.raises(Unsupported, match="m"):
            select_all(checkpoint, to=Target.PT)
        selection = select_all(checkpoint, to=Target.PT, skip_unsupported=True)
        twice = Selection(selection.entries * 2)
        with pytest.raises(Malformed, match="two tensors"):
            plan_pt(checkpoint, twice)
        write_pt(plan_pt(checkpoint, selection), tmp_path / "out.pt")
    assert list(torch.load(tmp_path / "out.pt", weights_only=True)) == ["w"]


def test_metadata_that_has_no_place_is_named(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "x.safetensors", {"ss_network_dim": "4"})
    written = to_pt(tmp_path / "x.safetensors", tmp_path / "out.pt")
    assert any("metadata" in note for note in written.notes)

"""`sdtool convert`: values, names, the gate, what is refused and what is skipped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.cli import standing
from tests.cli.conftest import Run

from sdtool.batch.checking import verify


def state(path: Path) -> dict[str, torch.Tensor]:
    # the callbacks' key is a class, which only a full load can take
    whole: Any = torch.load(path, weights_only=False)
    return dict(whole["state_dict"])


def same(out: Path, expected: dict[str, torch.Tensor]) -> bool:
    with safe_open(out, "pt") as file:
        return set(file.keys()) == set(expected) and all(
            torch.equal(file.get_tensor(name), tensor) for name, tensor in expected.items()
        )


def test_the_weights_are_the_whole_state_dict(sdtool: Run, training: Path) -> None:
    result = sdtool("convert", "training.ckpt")
    assert (result.code, result.err) == (0, "")
    first, second, *_ = result.out.splitlines()
    assert first == "training.ckpt -> training.safetensors"
    assert second.startswith("  56 tensors, 3.61 MB -> 1.99 MB (45% less), ")
    assert "  left out: training state (33 tensors, 1.60 MB)" in result.out
    assert same(Path("training.safetensors"), state(training))


def test_the_data_is_what_safetensors_itself_would_write(sdtool: Run, training: Path) -> None:
    sdtool("convert", "training.ckpt", "-o", "ours.safetensors")
    ours = Path("ours.safetensors").read_bytes()
    with safe_open("ours.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["global_step"] == "470000"
    save_file(state(training), "theirs.safetensors", metadata)
    theirs = Path("theirs.safetensors").read_bytes()
    data = ours[8 + int.from_bytes(ours[:8], "little") :]
    assert data == theirs[8 + int.from_bytes(theirs[:8], "little") :]


def test_a_cast_has_its_own_name_and_leaves_small_things_alone(sdtool: Run, training: Path) -> None:
    result = sdtool("convert", "training.ckpt", "--dtype", "fp16")
    assert result.code == 0
    assert "  cast vae: 3,984 values, largest error " in result.out
    expected = {
        name: t.half()
        if t.is_floating_point() and t.ndim and t.shape != (1000,) and name != "model_ema.decay"
        else t
        for name, t in state(training).items()
    }
    assert same(Path("training-fp16.safetensors"), expected)


def test_an_unsafe_file_is_refused_and_disarmed_only_on_request(sdtool: Run, trapped: Path) -> None:
    result = sdtool("convert", "trapped.ckpt")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("sdtool: error: trapped.ckpt: refused as unsafe (")
    assert "os.system" in result.err
    assert "--disarm" in result.err
    assert not Path("trapped.safetensors").exists()
    result = sdtool("convert", "trapped.ckpt", "--disarm")
    assert result.code == 0
    assert "sdtool: warning: trapped.ckpt: disarmed: " in result.err
    assert Path("trapped.safetensors").exists()


def test_of_several_codes_1_outranks_2(sdtool: Run, training: Path, trapped: Path) -> None:
    result = sdtool("convert", "training.ckpt", "gone.ckpt", "trapped.ckpt")
    assert result.code == 1
    assert "gone.ckpt: no such file or folder" in result.err
    assert Path("training.safetensors").exists()


def test_an_output_that_exists_is_kept(sdtool: Run, training: Path) -> None:
    out = Path("training.safetensors")
    out.write_bytes(b"mine")
    result = sdtool("convert", "training.ckpt")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "sdtool: error: training.safetensors: already exists\n"
        "sdtool: hint: overwrite it with --force\n"
    )
    assert out.read_bytes() == b"mine"
    assert sdtool("convert", "training.ckpt", "--force").code == 0
    assert same(out, state(training))


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_failed_promises_nothing(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    result = sdtool(verb, "training.ckpt", "-o", "out.safetensors")
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("sdtool: error: out.safetensors: not enough room: ")
    assert line.endswith(" bytes needed, 1,000 free")
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("options", [(), ("--dtype", "fp16"), ("--dtype", "bf16")])
def test_what_is_done_is_skipped(sdtool: Run, training: Path, options: tuple[str, ...]) -> None:
    assert sdtool("convert", "training.ckpt", "-o", "out.safetensors", *options).code == 0
    before = Path("out.safetensors").stat()
    result = sdtool("convert", "training.ckpt", "-o", "out.safetensors", *options)
    assert result.code == 0
    assert result.out == (
        "training.ckpt: skipped: out.safetensors already exists and is up to date\n"
    )
    assert Path("out.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_what_was_made_of_another_source_is_not_skipped(sdtool: Run, training: Path) -> None:
    assert sdtool("convert", "training.ckpt").code == 0
    data = bytearray(training.read_bytes())
    weights: Any = torch.load(training, weights_only=False)
    bias = weights["state_dict"]["model.diffusion_model.out.2.bias"].numpy().tobytes()
    at = data.index(bias)
    data[at] ^= 1
    training.write_bytes(data)
    result = sdtool("convert", "training.ckpt")
    assert result.code == 2
    assert "training.safetensors: already exists" in result.err


def test_of_two_inputs_of_one_output_nothing_is_made(sdtool: Run, training: Path) -> None:
    shutil.copy(training, "training.pt")
    shutil.copy(training, "another.ckpt")
    result = sdtool("convert", "training.ckpt", "training.pt", "another.ckpt")
    assert result.code == 2
    for one, other in (("ckpt", "pt"), ("pt", "ckpt")):
        clash = f"training.{one}: its output training.safetensors is also that of training.{other}"
        assert f"sdtool: error: {clash}\n" in result.err
    assert [path.name for path in Path().glob("*.safetensors")] == ["another.safetensors"]


def test_an_output_onto_the_input_is_refused(sdtool: Run, training: Path) -> None:
    before = training.read_bytes()
    result = sdtool("convert", "training.ckpt", "-o", "training.ckpt", "--force")
    assert result.code == 2
    assert "-o names the input itself" in result.err
    os.link(training, "link.safetensors")
    result = sdtool("convert", "training.ckpt", "-o", "link.safetensors", "--force")
    assert result.code == 2
    assert training.read_bytes() == before


def test_a_safetensors_file_is_converted_already(sdtool: Run, training: Path) -> None:
    sdtool("convert", "training.ckpt")
    result = sdtool("convert", "training.safetensors")
    told = "training.safetensors: nothing to do: it already has the requested form\n"
    assert (result.code, result.out, result.err) == (0, told, "")
    result = sdtool("convert", ".")
    assert result.code == 0
    assert "1 skipped, 1 nothing to do" in result.out


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_folder_is_mirrored(sdtool: Run, training: Path, jobs: str) -> None:
    for name in ("in/a.ckpt", "in/deep/b.pt", "in/deep/c"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(training, name)
    Path("in/deep/notes.txt").write_text("hello")
    result = sdtool("convert", "in", "--out-dir", "out", "--jobs", jobs)
    assert (result.code, result.err) == (0, "")
    made = sorted(p.as_posix() for p in Path("out").rglob("*") if p.is_file())
    assert made == ["out/a.safetensors", "out/deep/b.safetensors", "out/deep/c.safetensors"]
    assert "3 written, 1 passed over" in result.out
    assert same(Path("out/deep/c.safetensors"), state(training))


def test_a_dry_run_writes_nothing(sdtool: Run, training: Path, tmp_path: Path) -> None:
    result = sdtool("convert", "training.ckpt", "--out-dir", "new", "--dry-run")
    assert result.code == 0
    assert "training.ckpt would become new" in result.out
    assert os.listdir(tmp_path) == ["training.ckpt"]


def test_the_json_document(sdtool: Run, training: Path, trapped: Path) -> None:
    Path("gone-bad.ckpt").write_bytes(b"")
    result = sdtool("convert", ".", "--json", "--hash")
    assert result.code == 1
    document = json.loads(result.out)
    by_name = {Path(file["path"]).name: file for file in document["files"]}
    assert by_name["training.ckpt"]["status"] == "written"
    assert by_name["training.ckpt"]["tensors"] == 56
    optimizer = 2 * sum(
        t.nbytes for name, t in state(training).items() if name.startswith("model.")
    )
    assert by_name["training.ckpt"]["left_out"] == [
        {"reason": "training state", "tensors": 33, "size_bytes": optimizer + 4}
    ]
    assert by_name["trapped.ckpt"]["status"] == "refused"
    assert by_name["trapped.ckpt"]["verdict"] == "unsafe"
    assert by_name["gone-bad.ckpt"]["status"] == "failed"
    assert "empty" in by_name["gone-bad.ckpt"]["error"]
    assert document["summary"]["written"] == 1
    import hashlib

    digest = hashlib.sha256(Path("training.safetensors").read_bytes()).hexdigest()
    assert by_name["training.ckpt"]["hashes"]["sha256"] == digest


def test_provenance_only_on_request(sdtool: Run, training: Path) -> None:
    import hashlib

    sdtool("convert", "training.ckpt", "-o", "plain.safetensors")
    sdtool("convert", "training.ckpt", "-o", "noted.safetensors", "--provenance")
    with safe_open("plain.safetensors", "pt") as file:
        assert not [key for key in file.metadata() if key.startswith("sdtool")]
    with safe_open("noted.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["sdtool.source"] == "training.ckpt"
    digest = hashlib.sha256(training.read_bytes()).hexdigest()
    assert metadata["sdtool.source.sha256"] == digest


def test_sidecars_are_named_and_copied_on_request(sdtool: Run, training: Path) -> None:
    Path("training.yaml").write_text("model: {}")
    Path("training.preview.png").write_bytes(b"png")
    Path("training-notes.txt").write_text("not a sidecar")
    result = sdtool("convert", "training.ckpt", "-o", "new.safetensors")
    assert "keep their old name: training.yaml, training.preview.png" in result.out
    Path("new.preview.png").write_bytes(b"mine")
    result = sdtool(
        "convert", "training.ckpt", "-o", "new.safetensors", "--force", "--sidecars=copy"
    )
    assert result.code == 0
    assert Path("new.yaml").read_text() == "model: {}"
    assert Path("new.preview.png").read_bytes() == b"mine"
    assert sdtool("convert", "training.ckpt").out.count("old name") == 0


def test_replace_deletes_only_after_a_verified_write(sdtool: Run, training: Path) -> None:
    result = sdtool("convert", "--replace=delete", "training.ckpt")
    assert result.code == 0
    assert "verified" in result.out
    assert "the original was deleted" in result.out
    assert os.listdir() == ["training.safetensors"]


def test_replace_without_a_value_wants_the_trash(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash: list[str] = []
    monkeypatch.setitem(sys.modules, "send2trash", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = sdtool("convert", "--replace", "training.ckpt")
    assert result.code == 2
    assert "pip install send2trash" in result.err
    assert not Path("training.safetensors").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "send2trash", SimpleNamespace(send2trash=trash.append))
    assert sdtool("convert", "--replace", "training.ckpt").code == 0
    assert trash == ["training.ckpt"]


def test_replace_keeps_the_original_when_something_went_wrong(
    sdtool: Run, training: Path, trapped: Path
) -> None:
    Path("training.safetensors").write_bytes(b"mine")
    assert sdtool("convert", "--replace=delete", "training.ckpt", "trapped.ckpt").code == 1
    assert training.exists()
    assert trapped.exists()


def test_an_original_that_was_replaced_meanwhile_is_kept(
    sdtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer saves its last state under the same name again: that one was never converted."""
    path = tmp_path / "last.ckpt"
    torch.save({"w": torch.zeros(2)}, path)

    def late(*arguments: Any) -> None:
        torch.save({"w": torch.ones(2)}, tmp_path / "next")
        os.replace(tmp_path / "next", path)
        verify(*arguments)

    monkeypatch.setattr("sdtool.batch.writing.verify", late)
    result = sdtool("convert", "--replace=delete", path)
    assert result.code == 2
    assert "the original was modified during the run and was not deleted" in result.err
    assert torch.equal(torch.load(path)["w"], torch.ones(2))
    assert torch.equal(load_file(tmp_path / "last.safetensors")["w"], torch.zeros(2))


@pytest.mark.skipif(sys.platform != "linux", reason="a file that opens and cannot be read")
@pytest.mark.parametrize("options", [["convert", "--dtype", "fp16"], ["prune", "--all-variants"]])
def test_a_sidecar_that_cannot_be_copied_is_told(
    sdtool: Run, training: Path, options: list[str]
) -> None:
    Path("training.yaml").symlink_to("/proc/self/mem")
    result = sdtool(*options, "--sidecars", "copy", "--replace=delete", training)
    assert result.code == 2
    assert ".yaml" in result.err
    assert training.exists()
    assert list(Path().glob("training-*.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child alone")
@pytest.mark.parametrize(
    ("verb", "name", "jobs"),
    [
        ("convert", "SIGINT", "1"),
        ("convert", "SIGINT", "2"),
        ("convert", "SIGTERM", "1"),
        ("convert", "SIGHUP", "2"),
        ("prune", "SIGTERM", "2"),
    ],
)
def test_interrupted_it_leaves_nothing_half_written(
    tmp_path: Path, verb: str, name: str, jobs: str
) -> None:
    key = "model.diffusion_model.input_blocks.0.0.weight"
    for file in ("a.pt", "b.pt"):
        torch.save({key: torch.zeros(1_000_000, dtype=torch.uint8)}, tmp_path / file)
    process = standing.command(tmp_path, verb, ".", "--out-dir", "out", "--jobs", jobs)
    assert list(tmp_path.glob("out/.*partial*"))
    number = getattr(signal, name)
    os.killpg(process.pid, number)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert err.strip() == "sdtool: interrupted"
    assert not list(tmp_path.glob("out/.*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup: the terminal goes, the work goes on."""
    torch.save({"w": torch.zeros(1_000_000, dtype=torch.uint8)}, tmp_path / "a.pt")
    options = ["convert", "a.pt", "--out-dir", "out"]
    process = standing.command(tmp_path, *options, ignored=signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    process.communicate("on", timeout=120)
    assert process.returncode == 0
    assert os.listdir(tmp_path / "out") == ["a.safetensors"]


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_a_killed_run_has_left_is_named_and_kept(
    sdtool: Run, training: Path, verb: str
) -> None:
    Path("out").mkdir()
    left = Path("out", ".old.safetensors.sdtool-partial-0123abcd")
    left.write_bytes(b"half")
    result = sdtool(verb, "training.ckpt", "--out-dir", "out")
    assert result.code == 0
    (line,) = [line for line in result.err.splitlines() if str(left) in line]
    assert ": named like a partial output" in line
    assert left.read_bytes() == b"half"


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/full")
def test_a_reader_that_leaves_and_a_full_disk_are_no_tracebacks(training: Path) -> None:
    command = f"'{sys.executable}' -m sdtool convert training.ckpt --dry-run"
    for line, code in (
        (f"{command} | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"{command} >/dev/full", 2),
    ):
        done = subprocess.run(
            ["bash", "-c", line], cwd=training.parent, capture_output=True, check=False, text=True
        )
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert done.returncode == code


def test_an_output_of_this_run_is_never_overwritten_by_another(sdtool: Run, tmp_path: Path) -> None:
    """The tokens of an embedding give names that only its content tells, with --force as well."""
    folder = tmp_path / "f"
    folder.mkdir()

    def embedding(**tokens: torch.Tensor) -> dict[str, object]:
        return {"string_to_token": dict.fromkeys(tokens, 265), "string_to_param": dict(tokens)}

    torch.save(embedding(a=torch.ones(1, 768), b=torch.ones(1, 768)), folder / "emb.pt")
    torch.save(embedding(zzz=torch.zeros(1, 768)), folder / "emb-a.pt")
    result = sdtool("convert", folder, "--force", "--replace=delete")
    assert result.code == 2
    assert "is also that of" in result.err
    assert (folder / "emb.pt").exists()
    assert float(load_file(folder / "emb-a.safetensors")["emb_params"].sum()) == 0


def test_another_input_is_never_overwritten(sdtool: Run, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    save_file({"w": torch.zeros(4)}, folder / "m.sft")
    save_file({"w": torch.ones(4)}, folder / "m.safetensors")
    result = sdtool("convert", folder, "--force", "--replace=delete")
    assert result.code == 2
    assert "is another input" in result.err
    assert torch.equal(load_file(folder / "m.safetensors")["w"], torch.ones(4))
    assert (folder / "m.sft").exists()


def test_what_is_left_out_is_not_lost_with_the_original(sdtool: Run, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "c": torch.ones(2, dtype=torch.complex128)}, "x.pt")
    result = sdtool("convert", "x.pt", "--skip-unsupported", "--replace=delete")
    assert (result.code, Path("x.pt").exists()) == (2, True)
    assert "cannot be used together" in result.err

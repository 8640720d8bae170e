"""Where outputs go, and what is refused before anything is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sdtool.batch import Converting, Failed, Options, Written, run_batch, run_jobs
from sdtool.batch.claims import Claims
from sdtool.batch.engines import Here, OwnRun, Work
from sdtool.batch.expand import expand_inputs
from sdtool.batch.items import Item
from sdtool.batch.outputs import OnThisMachine, outputs_for
from sdtool.batch.place import Job, is_onto_itself, plan_outputs
from sdtool.checkpoint.errors import UsageError


def named(path: str, shards: Sequence[str]) -> list[str]:
    return [Path(path).stem + ".safetensors"]


def outs(*items: Item, out: str | None = None, out_dir: str | None = None) -> list[str]:
    with outputs_for(out, out_dir) as outputs:
        jobs = plan_outputs(items, named, outputs=outputs)
    return [path.as_posix() for job in jobs for path in job.outs]


def test_beside_the_input() -> None:
    assert outs(Item("models/a.ckpt"), Item("b.pt")) == ["models/a.safetensors", "b.safetensors"]


def test_a_folder_is_mirrored_in_the_output_folder(tmp_path: Path) -> None:
    for name in ("in/a.ckpt", "in/sub/b.ckpt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    items, _ = expand_inputs([str(tmp_path / "in")])
    out = tmp_path / "out"
    assert outs(*items, out_dir=str(out)) == [
        (out / "a.safetensors").as_posix(),
        (out / "sub" / "b.safetensors").as_posix(),
    ]


def test_a_file_goes_right_into_the_output_folder() -> None:
    assert outs(Item("deep/down/a.ckpt"), out_dir="out") == ["out/a.safetensors"]


@pytest.mark.parametrize("out_dir", [None, "out"])
def test_two_inputs_of_one_output_fail_and_no_other(out_dir: str | None) -> None:
    two = (
        [Item("m/a.ckpt"), Item("m/a.pt")] if out_dir is None else [Item("x/a.pt"), Item("y/a.pt")]
    )
    first, second, other = plan_outputs(
        [*two, Item("m/b.ckpt")], named, outputs=OnThisMachine(None, out_dir)
    )
    shared = os.path.join(out_dir or "m", "a.safetensors")
    for job, rival in ((first, second), (second, first)):
        assert job.clash is not None
        assert (job.clash.where, job.clash.what) == (
            job.item.path,
            f"its output {shared} is also that of {rival.item.path}",
        )
    assert other.clash is None


def test_which_names_no_other_input_could_take() -> None:
    """What a file is called may depend on what is in it: it begins with the stem all the same."""

    def apart(*names: str, dtype: str = "keep", out_dir: str | None = "out") -> set[str]:
        places = OnThisMachine(None, out_dir)
        items = [Item(f"m/{name}") for name in names]
        jobs = plan_outputs(items, Converting(dtype).names, outputs=places)
        return {Path(job.item.path).name for job in jobs if job.is_apart}

    assert apart("1.pt", "10.pt", "11.pt") == {"1.pt", "10.pt", "11.pt"}
    assert apart("emb.pt", "emb-a.pt", "embody.pt") == {"emb.pt", "embody.pt"}
    assert apart("emb.pt", "emb.a.pt") == {"emb.pt"}
    assert apart("emb.pt", "emb-fp16.pt") == {"emb.pt"}
    # cast, a file may keep its name, or have one that says the type
    assert apart("x-fp32.pt", "x-fp32-fp16-a.pt", dtype="fp16") == {"x-fp32.pt"}
    assert apart("x-fp32.pt", "x-fp16-a.pt", "y.pt", dtype="fp16") == {"x-fp32.pt", "y.pt"}
    assert apart("pytorch_model-1.bin", "model-1-a.pt") == {"pytorch_model-1.bin"}
    assert apart("a.pt", "a.ckpt", "b.pt") == {"b.pt"}
    assert apart("m.sft", "m.safetensors", out_dir=None) == set()  # one would be the other


def test_a_name_that_an_input_has_to_itself_is_taken_from_the_beginning() -> None:
    jobs = [Job(Item("a.pt"), ("a.safetensors",), is_apart=True), Job(Item("b.pt"), ("c",))]
    claims = Claims(jobs)
    claims.claim(Path("a.safetensors"), "a.safetensors", "a.pt", is_made_of_it=False)
    with pytest.raises(UsageError, match=r"is also that of a\.pt"):
        claims.claim(Path("./a.safetensors"), "a.safetensors", "b.pt", is_made_of_it=False)


def test_the_run_is_asked_only_for_names_that_another_input_could_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt", "b-1.pt"):
        torch.save({"w": torch.ones(4)}, name)
    asked: list[str] = []

    class Heard(OwnRun):
        def ask(self, question: Callable[[Any], Any]) -> Any:
            asked.append(repr(question))
            return super().ask(question)

    class Hearing(Here):
        @contextmanager
        def results(
            self, work: Work[Any, Any], items: Sequence[Any], late: list[Any]
        ) -> Generator[Any]:
            yield [work(item, Heard(work.host)) for item in items]

    made = run_batch(["."], Converting(), out_dir="out", engine=Hearing())
    assert [type(one) for one in made] == [Written] * 3
    (question,) = asked
    assert "claim" in question and "b-1.safetensors" in question


def test_a_name_that_is_taken_from_the_beginning_is_taken_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save({"w": torch.ones(4)}, name)
    out = ("x.safetensors",)
    jobs = [Job(Item("b.pt"), out), Job(Item("a.pt"), out, is_apart=True)]
    refused, made = run_jobs(jobs, Converting(), Options())
    assert isinstance(made, Written)
    assert isinstance(refused, Failed)
    assert "is also that of a.pt" in refused.error.what


def test_an_output_may_not_be_an_input() -> None:
    with pytest.raises(UsageError, match="-o names the input itself"):
        outs(Item("a.ckpt"), out="./a.ckpt")
    first, second = plan_outputs(
        [Item("a.ckpt"), Item("b.ckpt")], lambda p, _: ["b.ckpt" if p == "a.ckpt" else "c.ckpt"]
    )
    assert first.clash is not None
    assert "its output b.ckpt is another input" in str(first.clash)
    assert second.clash is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_an_output_may_not_be_an_input_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"x")
    os.symlink("a.ckpt", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "folder")
    for name in ("link", "folder/a.ckpt"):
        with pytest.raises(UsageError, match="-o names the input itself"):
            outs(Item(str(tmp_path / "a.ckpt")), out=str(tmp_path / name))


def test_an_input_that_has_its_output_name_already_is_no_collision() -> None:
    jobs = plan_outputs([Item("a.ckpt"), Item("a.safetensors")], named)
    assert [is_onto_itself(job) for job in jobs] == [False, True]


def test_options_that_contradict_the_inputs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 inputs"):
        outs(Item("a.ckpt"), Item("b.ckpt"), out="c.safetensors")
    with pytest.raises(UsageError, match="cannot be used together"):
        outs(Item("a.ckpt"), out="b", out_dir="c")
    with pytest.raises(UsageError, match="this is a folder"):
        outs(Item("a.ckpt"), out=str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="not a folder"):
        outs(Item("a.ckpt"), out_dir=str(tmp_path / "file"))

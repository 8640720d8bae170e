"""Checkpoints of TensorFlow on this machine, against its own reader.

It takes 600 MB, so .ci/run does without; what it wrote is kept in tests/tensorflow_samples.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.records import storage_chunks
from sdtool.scan import Verdict, scan_file

tf: Any = pytest.importorskip("tensorflow")
np: Any = pytest.importorskip("numpy")

RANDOM = np.random.default_rng(13)
VARIABLES: dict[str, Any] = {
    "conv/kernel": RANDOM.standard_normal((3, 3, 8, 16)).astype("f4"),
    "conv/bias": RANDOM.standard_normal(16).astype("f2"),
    "global_step": np.array(7, "i8"),
    "large": RANDOM.standard_normal((700, 300)).astype("f4"),
    "names": np.array(["ab", "c"], object),
}


@pytest.fixture(params=["V1", "V2", "objects"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """The file for sdtool, and the prefix for TensorFlow."""
    if request.param == "objects":
        module = tf.Module()
        module.variables_of_it = [tf.Variable(array) for array in VARIABLES.values()]
        prefix = tf.train.Checkpoint(model=module).save(str(tmp_path / "model"))
        return Path(f"{prefix}.index"), prefix
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        held = [v1.get_variable(k, initializer=v) for k, v in VARIABLES.items()]
        if request.param == "V1":  # its writer has no float16
            held = [variable for variable in held if variable.op.name != "conv/bias"]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            version = 1 if request.param == "V1" else 2
            saver = v1.train.Saver(held, write_version=version)
            prefix = saver.save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    return Path(prefix if version == 1 else f"{prefix}.index"), prefix


def test_every_value_is_that_of_its_own_reader(saved: tuple[Path, str]) -> None:
    path, prefix = saved
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    kinds = reader.get_variable_to_dtype_map()
    numbers = {name for name, kind in kinds.items() if kind != tf.string}
    assert scan_file(path, deep=True).verdict is Verdict.CLEAN
    with open_checkpoint(path) as found:
        assert {entry.name for entry in found.tensors} == numbers
        for entry in found.tensors:
            assert list(entry.shape) == shapes[entry.name]
            held = b"".join(storage_chunks(entry.storage, 0, entry.nbytes))
            assert held == reader.get_tensor(entry.name).tobytes(), entry.name

"""How the programs of the field open a file: what the promise of a scan is about.

Each loader takes a path and does what its program would; the packages are imported by the loader
that needs them. What it returns is what the program would go on with.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
import pickle
import re
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Loader = Callable[[str], Any]


# --- plain pickle ---------------------------------------------------------------------------------


def _c_file(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _every_pickle(path: str) -> None:
    with open(path, "rb") as file:
        while file.peek(1):
            pickle.load(file)


def _c_bytes(path: str) -> Any:
    return pickle.load(io.BytesIO(Path(path).read_bytes()))


def _python(path: str) -> Any:
    unpickler: Any = pickle._Unpickler  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    with open(path, "rb") as file:
        return unpickler(file).load()


def _opened_by(opener: Callable[..., Any]) -> Loader:
    def load(path: str) -> Any:
        with opener(path, "rb") as file:
            return pickle.load(file)

    return load


def _zlib(path: str) -> Any:
    return pickle.loads(zlib.decompress(Path(path).read_bytes()))


# --- torch ----------------------------------------------------------------------------------------


def _torch(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)


def _torch_mmap(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)


def _torch_file(path: str) -> Any:
    import torch

    with open(path, "rb") as file:
        return torch.load(file, map_location="cpu", weights_only=False)


def _torch_weights(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _torch_jit(path: str) -> Any:
    return _package("torch").jit.load(path, map_location="cpu")


def _torch_package(path: str) -> Any:
    """Load every pickle of the archive, each from the package that its path names."""
    importer = _package("torch.package").PackageImporter(path)
    places = [n.rpartition("/") for n in importer.zip_reader.get_all_records()]
    return [importer.load_pickle(at, name) for at, _, name in places if name.endswith(".pkl")]


def _torch_export(path: str) -> Any:
    import torch

    return torch.export.load(path)


# --- the libraries that share pickle's files ------------------------------------------------------


def _numpy(path: str) -> Any:
    import numpy

    loaded: Any = numpy.load(path, allow_pickle=True)
    return [loaded[key] for key in loaded.files] if hasattr(loaded, "files") else loaded


def _package(name: str) -> Any:
    """A package that may not be installed, and of whose types nobody tells."""
    return importlib.import_module(name)


def _joblib(path: str) -> Any:
    return _package("joblib").load(path)


def _pandas(path: str) -> Any:
    return _package("pandas").read_pickle(path)


def _dill(path: str) -> Any:
    with open(path, "rb") as file:
        return _package("dill").load(file)


def _cloudpickle(path: str) -> Any:
    with open(path, "rb") as file:
        return _package("cloudpickle").load(file)


# --- Stable Diffusion's programs ------------------------------------------------------------------

_A1111_NAMES = {
    "collections": {"OrderedDict"},
    "torch._utils": {
        "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_device_tensor_from_numpy",
    },
    "torch": {
        "FloatStorage", "HalfStorage", "IntStorage", "LongStorage", "DoubleStorage", "ByteStorage",
        "float32", "BFloat16Storage",
    },
    "torch.nn.modules.container": {"ParameterDict"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy": {"dtype", "ndarray"},
    "_codecs": {"encode"},
    "pytorch_lightning.callbacks": {"ModelCheckpoint"},
    "pytorch_lightning.callbacks.model_checkpoint": {"ModelCheckpoint"},
    "builtins": {"set"},
    "__builtin__": {"set"},
}  # fmt: skip
"""Names that A1111 lets through (modules/safe.py, `RestrictedUnpickler.find_class`)."""
_A1111_MEMBERS = re.compile(
    r"([^/]+)/((data/\d+)|version|byteorder|\.data/serialization_id|data\.pkl)$"
)


class _A1111Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        import torch

        storage: Any = torch.storage.TypedStorage
        return storage(_internal=True)

    def find_class(self, module_name: str, global_name: str) -> Any:
        if global_name not in _A1111_NAMES.get(module_name, ()):
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed")
        return super().find_class(module_name, global_name)


def _a1111(path: str) -> Any:
    """Two readings: a check with a short list of names, then torch.load of the same file.

    Source: AUTOMATIC1111/stable-diffusion-webui, modules/safe.py (`check_pt`, `load_with_extra`).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not all(map(_A1111_MEMBERS.match, names)):
                raise pickle.UnpicklingError("a member that is not torch's")
            (data_pkl,) = (n for n in names if re.match(r"([^/]+)/data\.pkl$", n))
            with archive.open(data_pkl) as file:
                _A1111Unpickler(file).load()
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            unpickler = _A1111Unpickler(file)
            for _ in range(5):
                unpickler.load()
    return _torch(path)


class _ComfyUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name.startswith("pytorch_lightning"):
            return type("Empty", (), {})
        return super().find_class(module_name, global_name)


def _comfyui(path: str) -> Any:
    """safetensors by its suffix, all else by torch with an unpickler of its own.

    Source: comfyanonymous/ComfyUI, comfy/utils.py (`load_torch_file`), comfy/checkpoint_pickle.py.
    """
    import torch

    if path.lower().endswith((".safetensors", ".sft")):
        from safetensors.torch import load_file

        return load_file(path)
    own = types.ModuleType("checkpoint_pickle")
    own.__dict__.update(Unpickler=_ComfyUnpickler, load=pickle.load, Pickler=pickle.Pickler)
    loaded: Any = torch.load(path, map_location="cpu", pickle_module=own, weights_only=False)
    if "state_dict" in loaded:
        return loaded["state_dict"]
    if len(loaded) == 1:
        (only,) = loaded.values()
        return only if isinstance(only, dict) else loaded
    return loaded


LOADERS: dict[str, Loader] = {
    "c-file": _c_file,
    "c-bytes": _c_bytes,
    "python": _python,
    "every": _every_pickle,
    "gzip": _opened_by(gzip.open),
    "bz2": _opened_by(bz2.open),
    "lzma": _opened_by(lzma.open),
    "zlib": _zlib,
    "torch": _torch,
    "torch-mmap": _torch_mmap,
    "torch-file": _torch_file,
    "torch-weights": _torch_weights,
    "torch-jit": _torch_jit,
    "torch-package": _torch_package,
    "torch-export": _torch_export,
    "numpy": _numpy,
    "joblib": _joblib,
    "pandas": _pandas,
    "dill": _dill,
    "cloudpickle": _cloudpickle,
    "a1111": _a1111,
    "comfyui": _comfyui,
}
NEEDS: dict[str, str] = {name: name for name in ("joblib", "pandas", "dill", "cloudpickle")}
"""The package that a loader is of, where it does not come with the tests."""


def warm(folder: str | os.PathLike[str]) -> None:
    """Load something with torch, so that what it imports late is there before a fork."""
    import torch

    path = Path(folder) / "warm.pt"
    for zipped in (True, False):
        torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
        torch.load(path, weights_only=False)
        torch.load(path, weights_only=True)
    path.unlink()

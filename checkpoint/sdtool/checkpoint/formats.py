"""The formats that sdtool reads, one row each: what it is called, how it is loaded, its suffixes.

The content decides which of them a file is (`containers`); a suffix is only what people expect of
it. What sdtool does not read has its name in `foreign.py`.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Self


class Loading(Enum):
    """What a loader does with a format."""

    DATA = "reads numbers and text: nothing in it can run"
    TORCH = "torch.load unpickles it, and gives the tensors it refers to"
    PICKLE = "pickle.load and its kin unpickle it"
    FILES = "it is unpacked; what is inside has a format of its own"
    PROGRAM = "it is made to be run"
    NOTHING = "nothing that sdtool knows takes it"


class Format(StrEnum):
    """What a file is by its content, as JSON and reports call it.

    `loading` is what a loader does with it, `suffixes` are those of its own, in lower case: a file
    that is called so is expected to be one.
    """

    loading: Loading
    suffixes: tuple[str, ...]

    def __new__(cls, slug: str, loading: Loading, *suffixes: str) -> Self:
        """A row of the table."""
        row = str.__new__(cls, slug)
        row._value_ = slug
        row.loading = loading
        row.suffixes = suffixes
        return row

    SAFETENSORS = "safetensors", Loading.DATA, ".safetensors", ".sft"
    NPY = "npy", Loading.DATA, ".npy"
    GGUF = "gguf", Loading.DATA, ".gguf"
    TENSORFLOW_V1 = "tensorflow-v1", Loading.DATA
    TENSORFLOW_V2 = "tensorflow-v2", Loading.DATA

    TORCH_ZIP = "torch-zip", Loading.TORCH, ".ckpt", ".pt", ".pth", ".bin", ".th"
    TORCH_LEGACY = "torch-legacy", Loading.TORCH
    TORCH_TAR = "torch-tar", Loading.TORCH

    PICKLE = "pickle", Loading.PICKLE, ".pkl", ".pickle", ".joblib"

    TORCH_DISTRIBUTED = "torch-distributed", Loading.FILES
    NPZ = "npz", Loading.FILES, ".npz"
    ZIP = "zip", Loading.FILES
    TAR = "tar", Loading.FILES
    GZIP = "gzip", Loading.FILES
    BZIP2 = "bzip2", Loading.FILES
    XZ = "xz", Loading.FILES
    LZMA = "lzma", Loading.FILES
    ZLIB = "zlib", Loading.FILES
    Z_FILE = "z-file", Loading.FILES

    TORCHSCRIPT = "torchscript", Loading.PROGRAM
    TORCH_PACKAGE = "torch-package", Loading.PROGRAM
    TORCH_EXPORT = "torch-export", Loading.PROGRAM, ".pt2"
    TORCHSERVE = "torchserve", Loading.PROGRAM
    KERAS = "keras", Loading.PROGRAM, ".keras"
    HDF5 = "hdf5", Loading.PROGRAM, ".h5"
    ONNX = "onnx", Loading.PROGRAM, ".onnx"

    UNKNOWN = "unknown", Loading.NOTHING

    @property
    def is_torch(self) -> bool:
        """Whether torch.load takes it for a file of tensors."""
        return self.loading is Loading.TORCH

    @property
    def unpickles(self) -> bool:
        """Whether loading it runs a pickle."""
        return self.loading in (Loading.TORCH, Loading.PICKLE)

    @classmethod
    def of_suffix(cls, suffix: str) -> Format | None:
        """The format that a file with this suffix, dot included, is expected to have."""
        suffix = suffix.lower()
        return next((row for row in cls if suffix in row.suffixes), None)

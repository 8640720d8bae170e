"""What to do next, where several rules say the same."""

from __future__ import annotations

DO_NOT_LOAD = "Do not load this file. Delete it and report it to the site you downloaded it from."
DOWNLOAD_AGAIN = "Download the file again from its publisher."
ASK = "Ask the publisher how the file was written, or download it again."
COMPARE = "Compare the file's size and hash with those published, and download it again."
DELETE = "Delete the file."
CONVERT_OR_ASK = (
    "Convert it to safetensors: the new file holds only the tensors. Or ask the publisher how the "
    "file was written."
)

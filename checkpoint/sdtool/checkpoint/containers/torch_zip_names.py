"""Which members torch takes for its own: those below the folder of the first entry, in any case.

Source: caffe2/serialize/inline_container.cc (`PyTorchStreamReader::init`, `getRecordID`).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sdtool.checkpoint.containers.zip_archive import ZipArchive
from sdtool.checkpoint.errors import InputError, Malformed
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source

_ODD_MEMBERS = (
    RuleId.DUPLICATE_MEMBER, RuleId.CASE_VARIANT_MEMBER, RuleId.IRREGULAR_MEMBER,
)  # fmt: skip


def find_root(archive: ZipArchive) -> str | None:
    """The folder that torch takes for the model's, slash included, or None for another zip."""
    root = first_folder(archive)
    wanted = f"{root}data.pkl".lower()
    return (
        root if root and any(name.lower() == wanted for name in archive.members.names()) else None
    )


def first_folder(archive: ZipArchive) -> str:
    """The folder of the first entry, slash included; empty where it is in none."""
    first, slash, _ = archive.members[0].name.partition("/") if archive.members else ("", "", "")
    return first + slash if slash else ""


def names_below(archive: ZipArchive, root: str) -> dict[str, Member]:
    """The members below the root by their names, without the records of storages."""
    found: dict[str, Member] = {}
    data, skip = f"{root}data/", len(root) + len("data/")
    for place, name in enumerate(archive.members.names()):
        if name.startswith(data) and name[skip:].isdecimal():  # code may be there, by other names
            continue
        if name.startswith(root):
            found[name[len(root) :]] = archive.members[place]
    return found


def ambiguous(
    source: Source, archive: ZipArchive, root: str, referenced: AbstractSet[str]
) -> InputError | None:
    """Why the values of a torch zip depend on who looks: torch looks up names without regard to
    case, and takes one of several by an order of its own.
    """
    data, order = f"{root}data/", f"{root}byteorder"
    others = {key.lower() for key in referenced if key.lower() != key}
    odd = {a.member.lower() for a in archive.anomalies if a.rule in _ODD_MEMBERS and a.member}
    seen: set[str] = set()
    for place, name in enumerate(archive.members.names()):
        folded = name.lower()
        key = folded[len(data) :] if folded.startswith(data.lower()) else None
        if not (key in referenced or key in others or folded == order.lower()):
            continue
        is_wanted = name == order or (name.startswith(data) and name[len(data) :] in referenced)
        if is_wanted and folded not in odd:
            continue
        member = archive.members[place]
        if member.is_folder:
            continue
        if folded in seen or not is_wanted or member.marked_folder:
            return Malformed(
                f"what is in {name!a} depends on the loader",
                where=source.name,
                hint="see `sdtool scan`; a file that torch.save wrote has each member once",
            )
        seen.add(folded)
    return None

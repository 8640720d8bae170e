"""torch's zip files: a `data.pkl`, and a record for each storage.

    <root>/data.pkl           the pickle; storages are persistent ids (`storage`, type, key, ...)
    <root>/byteorder          `little` or `big`; missing means little
    <root>/data/<key>         one storage each, stored, aligned to 64 bytes
    <root>/version            `3`
    <root>/constants.pkl      a TorchScript archive instead of a state dict, with code/

`<root>` is any name: the file's stem, or `archive`. torch takes the folder of the first entry, and
looks records up without regard to case.

Source: torch/serialization.py (`_save`, `_load`, `_is_torchscript_zip`);
caffe2/serialize/inline_container.cc (`PyTorchStreamReader::init`, `getRecordID`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field

from sdtool.checkpoint.claims import claim_anomalies
from sdtool.checkpoint.containers.numpy_file import MAGIC as NPY_MAGIC
from sdtool.checkpoint.containers.opening import Opening, first_few
from sdtool.checkpoint.containers.pickle_rows import pickles_in_a_row
from sdtool.checkpoint.containers.programs import (
    TORCHSCRIPT,
    ProgramFormat,
    code_anomalies,
    program_format,
)
from sdtool.checkpoint.containers.torch_zip_names import ambiguous, names_below
from sdtool.checkpoint.containers.zip_archive import ZipArchive
from sdtool.checkpoint.containers.zip_checks import (
    deep_anomalies,
    local_header_anomalies,
    usual_text,
)
from sdtool.checkpoint.containers.zip_members import STORED, member_head, open_member
from sdtool.checkpoint.containers.zip_storages import ZipStorages
from sdtool.checkpoint.crc32 import crc32_of
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.reading import SCRIPT, TORCH, LoaderProfile, Reading, Repeat, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Inflated, Slice, Source, is_far
from sdtool.checkpoint.storage_ids import StorageIds
from sdtool.checkpoint.tensors import Storage
from sdtool.checkpoint.trace import Anomaly, Trace
from sdtool.checkpoint.values import Instance

_BOOKKEEPING = frozenset(
    {"version", ".data/version", "byteorder", ".format_version", ".storage_alignment",
     ".data/serialization_id"}
)  # fmt: skip
_LINE_NBYTES = 128
_NUMBER_NBYTES = 64
_CHUNK_NBYTES = 1 << 20


@dataclass(slots=True)
class _Found:
    """What the members of one archive come to."""

    streams: list[Stream] = field(default_factory=list[Stream])
    inner: list[Reading] = field(default_factory=list[Reading])
    anomalies: list[Anomaly] = field(default_factory=list[Anomaly])
    unread: list[str] = field(default_factory=list[str])
    not_fetched: int = 0
    """Records of tensors, of a file of which each part costs a request."""
    error: InputError | None = None
    """The first thing that makes the file unusable."""

    def fail(self, e: InputError) -> None:
        """Take up an error: the first one counts."""
        self.error = self.error or e


def read_torch_zip(opening: Opening, archive: ZipArchive, root: str) -> Reading:
    """Read every pickle of a torch zip, and find where each storage is."""
    source = opening.source
    found = _Found(anomalies=list(archive.anomalies))
    names = names_below(archive, root)
    program = program_format(names)
    is_script = program is TORCHSCRIPT
    byteorder, found.error = _byteorder(source, names)
    storages = ZipStorages(source, archive.members, f"{root}data/", byteorder)

    _main_pickles(opening, archive, root, SCRIPT if is_script else TORCH, found)
    referenced = _referenced(opening, storages, found)
    if opening.deep:
        try:
            found.anomalies.extend(
                deep_anomalies(source, archive.members, archive.directory_offset, opening.budget)
            )
        except LimitExceeded as e:
            found.fail(e)
    _other_members(opening, archive, root, referenced, found, is_script=is_script)
    if not is_script:  # the storages of a script may be among its constants
        missing = min((key for key in referenced if key not in storages), default=None)
        if missing is not None:
            found.fail(
                Malformed(
                    f"storage {missing!a} is used and is not in the file",
                    where=source.name,
                    hint="the file is damaged or unfinished: download it again",
                )
            )
        if found.error is None:
            found.error = ambiguous(source, archive, root, referenced)
    found.anomalies.extend(_program_anomalies(names, program, root))
    if program is not None:
        found.fail(program.error(source.name))
    return Reading(
        Format.TORCH_ZIP if program is None else program.format,
        source,
        tuple(found.streams),
        archive.members,
        storages,
        tuple(found.anomalies),
        found.error,
        byteorder,
        inner=tuple(found.inner),
        unread=first_few(found.unread),
    )


def _main_pickles(
    opening: Opening, archive: ZipArchive, root: str, profile: LoaderProfile, found: _Found
) -> None:
    """Each member that a loader may take for `data.pkl`: there is one in an honest file."""
    main = f"{root}data.pkl".lower()
    for place, name in enumerate(archive.members.names()):
        if name.lower() == main:
            member = archive.members[place]
            if not opening.deep:
                found.anomalies.extend(local_header_anomalies(opening.source, member))
            _main_pickle(opening, member, found, profile)


def _referenced(opening: Opening, storages: ZipStorages, found: _Found) -> AbstractSet[str]:
    """The keys of the storages that the streams refer to; what they claim of them is looked at."""
    referenced: AbstractSet[str] = frozenset()
    for stream in found.streams:
        if stream.profile not in (TORCH, SCRIPT):
            continue
        repeat = stream.repeat
        keys = None if repeat is None else _keys_of(repeat, storages)
        if keys is None:
            ids = StorageIds()
            claimed, indexed = claim_anomalies(stream, ids, storages.record_nbytes, opening.limits)
            keys = ids.keys
            if stream.profile is TORCH:
                found.anomalies.extend(claimed)
                if indexed:
                    _check_indices(opening, stream, indexed, storages, found)
            if repeat is not None and not (claimed or indexed):
                repeat.records = {key: storages.record_nbytes(key) for key in keys}
        # of very many the keys are not copied: nearly every archive has one such stream
        referenced = referenced | keys if referenced else keys
    return referenced


def _keys_of(repeat: Repeat, storages: ZipStorages) -> AbstractSet[str] | None:
    """The keys of the storages of a pickle that was found to claim nothing but the truth, if the
    records here are like those that it was held against.
    """
    records = repeat.records
    if records is None:
        return None
    sizes = storages.record_nbytes
    is_so = all(sizes(key) == nbytes for key, nbytes in records.items())
    return records.keys() if is_so else None


def _other_members(
    opening: Opening,
    archive: ZipArchive,
    root: str,
    referenced: AbstractSet[str],
    found: _Found,
    *,
    is_script: bool,
) -> None:
    """All members but `data.pkl`: what a loader may find in each."""
    main = f"{root}data.pkl".lower()
    for member in archive.members:
        if member.is_folder or member.name.lower() == main:
            continue
        is_below = member.name.startswith(root)
        inner = member.name[len(root) :] if is_below else member.name
        if inner in _BOOKKEEPING and not opening.deep:
            text = usual_text(opening.source, member, _LINE_NBYTES)
            if text is not None and _is_bookkeeping(text):
                continue
            found.anomalies.extend(local_header_anomalies(opening.source, member))
        if is_below and inner.startswith("data/") and inner[5:] in referenced:
            _storage_record(opening, member, found)
        elif is_script and inner.endswith(("pkl", ".py")):
            _script_member(opening, member, inner, found)
        else:
            _other_member(opening, member, inner, found)
    if found.not_fetched:
        found.anomalies.append(Anomaly(RuleId.RECORDS_NOT_FETCHED, f"{found.not_fetched:,}"))


def _check_indices(
    opening: Opening,
    stream: Stream,
    calls: list[Instance],
    storages: Mapping[str, Storage],
    found: _Found,
) -> None:
    from sdtool.checkpoint.index_claims import index_anomalies  # few files have such tensors

    nbytes = opening.source.nbytes
    try:
        found.anomalies.extend(index_anomalies(stream, calls, storages, nbytes, opening.limits))
    except LimitExceeded as e:
        found.fail(e)


def _program_anomalies(
    names: Mapping[str, Member], program: ProgramFormat | None, root: str
) -> Iterator[Anomaly]:
    if program is not None and program.rule is not None:
        code = sum(name.startswith("code/") for name in names)
        detail = f"{code:,} members of code" if program is TORCHSCRIPT else program.detail
        yield Anomaly(program.rule, detail, None, root + "code/" if code else None)
    sources = (name for name in names if program is not TORCHSCRIPT or name[:5] != "code/")
    yield from code_anomalies(sources)


def _byteorder(source: Source, names: Mapping[str, Member]) -> tuple[str, InputError | None]:
    member = names.get("byteorder")
    if member is None:
        return "little", None
    try:
        content = open_member(source, member, _LINE_NBYTES)
        order = str(content.read_at(0, member.nbytes), "ascii", "replace")
        if order not in ("little", "big"):
            raise Malformed(f"a byte order called {order!a}", where=source.name)
        if not has_its_crc32(content, member):
            raise _damaged(source, member)
    except InputError as e:
        return "little", e
    return order, None


def open_inside(opening: Opening, member: Member) -> Slice | Inflated:
    """The bytes of a member, paid for from the budget of the file.

    Raises:
        InputError: it cannot be opened, or inflates to too much.
    """
    content = open_member(opening.source, member, opening.inflates_to())
    if member.compression != STORED:
        opening.budget.inflated_nbytes -= member.nbytes
    return content


def _main_pickle(opening: Opening, member: Member, found: _Found, profile: LoaderProfile) -> None:
    """The pickle of `data.pkl`, and whatever stands behind its STOP."""
    try:
        content = open_inside(opening, member)
    except InputError as e:
        found.unread.append(f"{member.name}: {e.what}")
        found.streams.append(Stream(member.name, 0, profile, opening.source, Trace(), None, e))
        return
    if not has_its_crc32(content, member):
        found.fail(_damaged(opening.source, member))
        if not opening.deep:
            found.anomalies.append(
                Anomaly(RuleId.CRC_MISMATCH, "its CRC-32 is not the declared one", 0, member.name)
            )
    first = opening.pickle(content, profile=profile, member=member.name)
    found.streams.append(first)
    offset = first.trace.nbytes
    if first.error is None and offset < content.nbytes:
        # torch stops at the first STOP; another loader may go on.
        found.streams.extend(pickles_in_a_row(opening, content, offset, member.name))


def _damaged(source: Source, member: Member) -> Malformed:
    return Malformed(
        f"{member.name} does not have its CRC-32",
        where=source.name,
        hint="the file is damaged: download or copy it again",
    )


def has_its_crc32(content: Source, member: Member) -> bool:
    """Whether the bytes of a member have their checksum; zero is one that was never written."""
    if not member.crc32:
        return True
    found = at = 0
    while chunk := content.read_at(at, _CHUNK_NBYTES):
        found = crc32_of(chunk, found)
        at += len(chunk)
    return found == member.crc32


def _storage_record(opening: Opening, member: Member, found: _Found) -> None:
    """The record of a storage that tensors refer to: data to torch, and to numpy an array file.

    `numpy.load` opens any zip and reads the members that begin as an array file does. No other
    loader takes these bytes for anything, so what else they begin like means nothing.
    """
    if is_far(opening.source) and not opening.deep:
        found.not_fetched += 1
    elif member_head(opening.source, member, len(NPY_MAGIC)) == NPY_MAGIC:
        _other_member(opening, member, "", found)


def _script_member(opening: Opening, member: Member, inner: str, found: _Found) -> None:
    """A pickle of a TorchScript archive, read by the loader of such archives; or its code."""
    if inner.startswith("code/") and inner.endswith(".py"):
        _storage_record(opening, member, found)  # data too, but for numpy.load
        return
    try:
        content = open_inside(opening, member)
    except InputError as e:
        found.unread.append(f"{member.name}: {e.what}")
        return
    stream = opening.pickle(content, profile=SCRIPT, member=member.name)
    found.streams.append(stream)
    if stream.error is None:
        found.streams.extend(
            pickles_in_a_row(opening, content, stream.trace.nbytes, member.name, SCRIPT)
        )


def _is_bookkeeping(text: bytes) -> bool:
    """Whether `text` is what torch writes into such a member: a number or a byte order."""
    number = text.removesuffix(b"\n")
    return (number.isdigit() and len(number) <= _NUMBER_NBYTES) or text in (b"little", b"big")


def _other_member(opening: Opening, member: Member, inner: str, found: _Found) -> None:
    try:
        content = open_inside(opening, member)
    except InputError as e:
        found.unread.append(f"{member.name}: {e.what}")
        return
    if inner in _BOOKKEEPING and _is_bookkeeping(content.read_at(0, _LINE_NBYTES)):
        return
    _look_inside(opening, member, content, found)
    if isinstance(content, Inflated):
        content.release()


def _look_inside(opening: Opening, member: Member, content: Source, found: _Found) -> None:
    """Pickles in a member that torch does not read, bare or in a file of another kind.

    Bytes of a tensor begin like a compressed file now and then: what holds no pickle is nothing.
    """
    pickles = list(pickles_in_a_row(opening, content, 0, member.name))
    found.streams.extend(pickles)
    files: list[Reading] = []
    if not pickles:
        files = [
            reading
            for reading in opening.inside(content)
            if reading.streams or reading.inner or isinstance(reading.error, LimitExceeded)
        ]
        found.inner.extend(files)
    if pickles or files:
        found.anomalies.append(Anomaly(RuleId.HIDDEN_PICKLE, "", member.header_offset, member.name))

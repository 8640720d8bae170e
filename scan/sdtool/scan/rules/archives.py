"""Rules for containers: archives, and what stands around and between their members."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity
from sdtool.scan.rules.hints import COMPARE, DOWNLOAD_AGAIN

RULES: dict[RuleId, Rule] = {
    RuleId.CASE_VARIANT_MEMBER: Rule(
        Severity.LOW,
        title="two archive members differ only in case",
        why=(
            "torch ignores case when it looks for its pickle, so it may load a different member "
            "from the one that is shown."
        ),
        hint="Download the file again from its publisher. torch.save never writes such members.",
    ),
    RuleId.CRC_MISMATCH: Rule(
        Severity.LOW,
        title="a checksum is wrong",
        why="torch does not check it, so damaged or replaced weights load without any warning.",
        hint=COMPARE,
    ),
    RuleId.DIRECTORY_DISAGREEMENT: Rule(
        Severity.LOW,
        title="the archive's directory contradicts its end record",
        why="Readers that trust one see different members from readers that trust the other.",
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.DUPLICATE_MEMBER: Rule(
        Severity.LOW,
        title="two archive members have the same name",
        why=(
            "Loaders choose differently between them: a scanner may see one member while torch "
            "loads the other."
        ),
        hint="Download the file again from its publisher. torch.save never writes duplicates.",
    ),
    RuleId.ENCRYPTED_MEMBER: Rule(
        Severity.LOW,
        title="an archive member is encrypted",
        why="Its content cannot be checked, and no serializer of models encrypts.",
        hint="Ask the publisher for a file that is not encrypted.",
    ),
    RuleId.EXPORTED_PROGRAM: Rule(
        Severity.LOW,
        title="an exported program, not weights",
        why=(
            "torch.export.load interprets the graph in it and evaluates some sizes as Python "
            "expressions. sdtool reads the pickles of such a file but does not judge the graph."
        ),
        hint="Load it only if you trust its publisher, or ask for the weights as safetensors.",
    ),
    RuleId.GAP_DATA: Rule(
        Severity.LOW,
        title="extra data between the members of the archive",
        why="No loader reads it and no serializer leaves it: something was hidden or removed.",
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.HIDDEN_PICKLE: Rule(
        Severity.LOW,
        title="a pickle where no loader of weights looks",
        why="Another loader, or the same one when asked for another member, would run it.",
        hint=(
            "Download the file again from its publisher, or convert it: the new file holds only "
            "the tensors."
        ),
    ),
    RuleId.IRREGULAR_MEMBER: Rule(
        Severity.LOW,
        title="an archive member is a link, a sparse file, a device or a folder with content",
        why=(
            "Loaders follow links and fill holes, and torch reads nothing from a member marked as "
            "a folder. The bytes that count are therefore not those that follow the member's "
            "header. No program writes a checkpoint this way."
        ),
        hint="Do not load this file. Get it from another source.",
    ),
    RuleId.LOCAL_HEADER_MISMATCH: Rule(
        Severity.LOW,
        title="a local header contradicts the archive's directory",
        why="Readers that trust one see different bytes from readers that trust the other.",
        hint=(
            "Download the file again from its publisher, or save it again with a program that you "
            "trust."
        ),
    ),
    RuleId.OVERLAPPING_MEMBERS: Rule(
        Severity.LOW,
        title="archive members overlap",
        why=(
            "The same bytes are read as two members. This lets a small archive claim to be large, "
            "or one member hide in another."
        ),
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.PACKAGED_CODE: Rule(
        Severity.LOW,
        title="contains code beside the weights",
        why=(
            "The archive contains Python sources or libraries. Programs made for such archives run "
            "them on loading (torch.package, TorchServe, torch.export)."
        ),
        hint=(
            "Do not load it with such a program unless you trust its publisher. Look for a "
            "safetensors version."
        ),
    ),
    RuleId.PATH_TRAVERSAL_MEMBER: Rule(
        Severity.LOW,
        title="an archive member's name leads out of its folder",
        why="A program that unpacks the archive would write this member elsewhere on the disk.",
        hint="Do not unpack it. Download the file again from its publisher.",
    ),
    RuleId.POLYGLOT: Rule(
        Severity.LOW,
        title="the file can be read as two formats at once",
        why="What a scanner sees depends on how it looks, and so does what a program loads.",
        hint="Download the file again from its publisher. A well-formed file has one format.",
    ),
    RuleId.PREFIX_DATA: Rule(
        Severity.LOW,
        title="extra data before the archive",
        why=(
            "The format that a reader sees depends on where it starts. The extra data can be a "
            "program or another model."
        ),
        hint=DOWNLOAD_AGAIN,
    ),
    RuleId.TORCHSCRIPT: Rule(
        Severity.LOW,
        title="a TorchScript program, not weights",
        why=(
            "It contains code that runs when the model is used. sdtool lists that code but does "
            "not judge it."
        ),
        hint="Ask the publisher for the weights, saved from `module.state_dict()`.",
    ),
    RuleId.TRAILING_DATA: Rule(
        Severity.LOW,
        title="extra data after the end",
        why="No loader of weights reads it, but another program may read the file from there.",
        hint=(
            "Download the file again from its publisher, or convert it: the new file holds only "
            "the tensors."
        ),
    ),
    RuleId.UNUSED_BYTES: Rule(
        Severity.INFO,
        title="bytes that nothing in the file refers to",
        why="They are too few or too plain to be a pickle, and no loader reads them.",
        hint="Nothing; or convert it: the new file holds only the tensors.",
    ),
}

"""Every rule: how bad it is, what it says, why it matters, and what to do next.

docs/rules.md is made of this table: `SDTOOL_DOCS=write python -m pytest tests/scan/test_rules.py`.
"""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity

RULES: dict[RuleId, Rule] = {
    RuleId.ALIAS_BOMB: Rule(
        Severity.LOW,
        title="nested aliases unfold into an enormous number of values",
        why=(
            "Every level refers to the one below several times: whoever walks or copies it never "
            "finishes."
        ),
        hint="Delete the file.",
    ),
    RuleId.ALLOWED_GLOBAL: Rule(
        Severity.INFO,
        title="a name that you allow",
        why="It stands in the list of allowed names, with a reason.",
        hint="Nothing.",
    ),
    RuleId.BUFFER_OPCODE: Rule(
        Severity.LOW,
        title="it expects buffers from outside of the file",
        why=(
            "Out-of-band buffers are handed over by a running program; a file with them cannot be "
            "loaded on its own."
        ),
        hint="Ask its publisher for a file that is complete.",
    ),
    RuleId.CASE_VARIANT_MEMBER: Rule(
        Severity.LOW,
        title="two members of the archive differ only in case",
        why=(
            "torch looks its pickle up without regard to case, so it may load another member than "
            "the one that is shown."
        ),
        hint="Get the file again from its publisher; a file that torch.save wrote has none.",
    ),
    RuleId.COMPUTED_NAME: Rule(
        Severity.HIGH,
        title="it computes the name that it imports",
        why=(
            "The name is put together while loading, which hides it from whoever reads the file. "
            "No pickler does that."
        ),
        hint="Do not load this file. Delete it, and tell where you got it from.",
    ),
    RuleId.CRC_MISMATCH: Rule(
        Severity.LOW,
        title="a checksum is wrong",
        why="torch does not check it, so damaged or exchanged weights load without a word.",
        hint="Download the file again and compare its hash with the one published.",
    ),
    RuleId.DANGEROUS_CALL: Rule(
        Severity.CRITICAL,
        title="it calls a harmless name in a harmful way",
        why=(
            "The name itself is in honest files, but with these arguments it reaches code that the "
            "file chooses."
        ),
        hint="Do not load this file. Delete it, and tell where you got it from.",
    ),
    RuleId.DANGEROUS_GLOBAL: Rule(
        Severity.CRITICAL,
        title="it names what can do harm",
        why=(
            "Loading the file imports this name, and a call hands it arguments from the file: that "
            "is how a model runs a program."
        ),
        hint="Do not load this file. Delete it, and tell where you got it from.",
    ),
    RuleId.DIRECTORY_DISAGREEMENT: Rule(
        Severity.LOW,
        title="the archive's directory contradicts its end record",
        why="Readers that trust one see other members than readers that trust the other.",
        hint="Get the file again from its publisher.",
    ),
    RuleId.DOTTED_NAME: Rule(
        Severity.LOW,
        title="a name that reaches through another",
        why=(
            "With dots a name walks from one module through its attributes to any other; nobody "
            "vouches for where it ends."
        ),
        hint=(
            "Convert to safetensors, which leaves it behind. If you know the name and trust it: "
            "--allow MODULE:NAME."
        ),
    ),
    RuleId.DUPLICATE_MEMBER: Rule(
        Severity.LOW,
        title="two members of the archive have the same name",
        why=(
            "Loaders pick differently among them: a scanner may be shown one and torch load the "
            "other."
        ),
        hint=(
            "Get the file again from its publisher; a file that torch.save wrote has no duplicates."
        ),
    ),
    RuleId.ENCRYPTED_MEMBER: Rule(
        Severity.LOW,
        title="a member of the archive is encrypted",
        why="What it holds cannot be judged, and no writer of models encrypts.",
        hint="Ask its publisher for a file that is not encrypted.",
    ),
    RuleId.ESCAPED_MUTATION: Rule(
        Severity.LOW,
        title="an argument is changed after it was used",
        why=(
            "What the call was given is not what stands there in the end, so that the real "
            "arguments are hidden."
        ),
        hint="Get the file again from its publisher; ask how it was written.",
    ),
    RuleId.EXPORTED_PROGRAM: Rule(
        Severity.LOW,
        title="an exported program, not weights",
        why=(
            "torch.export.load interprets the graph in it, and evaluates sizes that are "
            "expressions as Python: sdtool reads the pickles of such a file and does not judge "
            "what the graph does."
        ),
        hint="Load it only if you trust its publisher, or ask for the weights as safetensors.",
    ),
    RuleId.EXTENSION_CODE: Rule(
        Severity.LOW,
        title="it calls a name by number",
        why=(
            "An extension code stands for whatever name a program has registered under it; the "
            "file does not say which."
        ),
        hint="Ask its publisher for a file without copyreg extensions.",
    ),
    RuleId.FRAME_PAST_END: Rule(
        Severity.LOW,
        title="a frame is longer than the file",
        why=(
            "The C unpickler refuses it, the Python one (joblib, dill) runs what is there: cut "
            "off, or made so that only some loaders run it."
        ),
        hint="Compare the file's size with the one published and download it again.",
    ),
    RuleId.FRAME_PAST_STOP: Rule(
        Severity.LOW,
        title="a frame goes on behind the end of its pickle",
        why="Bytes that no loader interprets ride along in a place where no pickler leaves any.",
        hint="Get the file again from its publisher; ask how it was written.",
    ),
    RuleId.GAP_DATA: Rule(
        Severity.LOW,
        title="bytes stand between the members of the archive",
        why="No loader reads them and no writer leaves them: something was hidden or removed.",
        hint="Get the file again from its publisher.",
    ),
    RuleId.HASH_COLLISION: Rule(
        Severity.LOW,
        title="the keys of a dict or set were made to collide",
        why="Python compares each of them with all the others: loading the file takes hours.",
        hint="Delete the file.",
    ),
    RuleId.HIDDEN_PICKLE: Rule(
        Severity.LOW,
        title="a pickle stands where no loader of weights looks",
        why="Another loader, or the same one asked for another member, would run it.",
        hint=(
            "Get the file again from its publisher; convert keeps the tensors and leaves it behind."
        ),
    ),
    RuleId.IRREGULAR_MEMBER: Rule(
        Severity.LOW,
        title="a link, a sparse file, a device or a folder with content as an archive member",
        why=(
            "Loaders follow links and fill holes, and torch reads nothing of what is marked as a "
            "folder, so the bytes that count are not those that stand behind the member's header. "
            "No program writes a checkpoint so."
        ),
        hint="Do not load this file; get it from another source.",
    ),
    RuleId.LOADER_DISAGREEMENT: Rule(
        Severity.LOW,
        title="loaders do not agree on what this says",
        why=(
            "One loader fails where another goes on, so what is harmless under one may run under "
            "another. No pickler writes it."
        ),
        hint="Get the file again from its publisher; ask how it was written.",
    ),
    RuleId.LOCAL_HEADER_MISMATCH: Rule(
        Severity.LOW,
        title="a local header contradicts the archive's directory",
        why="Readers that trust one see other bytes than readers that trust the other.",
        hint=(
            "Get the file again from its publisher, or save it anew from a program that you trust."
        ),
    ),
    RuleId.MEMO_INDEX: Rule(
        Severity.LOW,
        title="an enormous memo index",
        why=(
            "The C unpickler allocates memory up to the index: a few bytes of file exhaust the "
            "machine."
        ),
        hint="Delete the file.",
    ),
    RuleId.NESTED_FRAME: Rule(
        Severity.LOW,
        title="a frame begins inside a frame",
        why=(
            "The C unpickler and the Python one take the bytes behind it differently; no pickler "
            "writes it."
        ),
        hint="Get the file again from its publisher; ask how it was written.",
    ),
    RuleId.NESTED_PICKLE: Rule(
        Severity.INFO,
        title="a pickle inside the pickle",
        why=(
            "The loader is handed bytes that are a pickle of their own. sdtool follows them; "
            "findings in them are listed as well."
        ),
        hint="Nothing, if nothing else was found.",
    ),
    RuleId.NUL_IN_NAME: Rule(
        Severity.LOW,
        title="a tensor's name holds a NUL",
        why="Programs in C cut the name there, so two programs see two different tensors.",
        hint="Get the file again from its publisher.",
    ),
    RuleId.ODD_NAME: Rule(
        Severity.HIGH,
        title="a name with characters that no name has",
        why=(
            "A NUL, a space, a control or a look-alike character makes a scanner see another name "
            "than the one that Python imports."
        ),
        hint="Do not load this file. Delete it, and tell where you got it from.",
    ),
    RuleId.ODD_PERSISTENT_ID: Rule(
        Severity.LOW,
        title="it asks the loader for something that is no storage",
        why="torch knows storages only; other loaders may do other things with such a request.",
        hint="Get the file again from its publisher; ask how it was written.",
    ),
    RuleId.ODD_TARGET: Rule(
        Severity.HIGH,
        title="it calls or changes what is no plain name",
        why=(
            "The result of one call is called, or a name is changed from within the file, so that "
            "what runs cannot be read off. Honest picklers only call names."
        ),
        hint="Do not load this file. Delete it, and get it from its publisher.",
    ),
    RuleId.OPCODE_CROSSES_FRAME: Rule(
        Severity.HIGH,
        title="an opcode crosses the end of its frame",
        why=(
            "Loaders read such an opcode differently: torch.load sees other names or other memo "
            "entries than a plain reader, so one file is harmless to one of them and runs code in "
            "another. No pickler writes it."
        ),
        hint="Delete the file, and get it again from its publisher.",
    ),
    RuleId.OVERLAPPING_MEMBERS: Rule(
        Severity.LOW,
        title="members of the archive overlap",
        why=(
            "The same bytes are read as two members, which lets a small archive claim to be large, "
            "or one member hide in another."
        ),
        hint="Get the file again from its publisher.",
    ),
    RuleId.OVERSIZED_ARGUMENT: Rule(
        Severity.LOW,
        title="a call asks for an enormous result",
        why="A few bytes of file make the loader allocate or compute without end.",
        hint="Delete the file.",
    ),
    RuleId.PACKAGED_CODE: Rule(
        Severity.LOW,
        title="carries code beside the weights",
        why=(
            "The archive holds Python sources or libraries that a program made for such archives "
            "runs when it loads them (torch.package, TorchServe, torch.export)."
        ),
        hint=(
            "Do not load it with such a program unless you trust its publisher. Look for a "
            "safetensors version."
        ),
    ),
    RuleId.PATH_TRAVERSAL_MEMBER: Rule(
        Severity.LOW,
        title="a member's name leads out of its folder",
        why="A program that unpacks the archive would write the member elsewhere on the disk.",
        hint="Do not unpack it; get the file again from its publisher.",
    ),
    RuleId.PICKLED_MODEL: Rule(
        Severity.LOW,
        title="a whole pickled model, not weights",
        why=(
            "It holds objects of a program, which loads only with the same program installed and "
            "runs its code: nobody can vouch for that by looking at the file."
        ),
        hint=(
            "Look for a safetensors version; sdtool convert extracts the tensors. Profiles for "
            "well-known models are in docs/rules.md."
        ),
    ),
    RuleId.POLYGLOT: Rule(
        Severity.LOW,
        title="the file can be taken for two formats at once",
        why="What a scanner sees depends on how it looks, and so does what a program loads.",
        hint="Get the file again from its publisher; an honest file is of one kind.",
    ),
    RuleId.PREFIX_DATA: Rule(
        Severity.LOW,
        title="bytes stand before the archive",
        why=(
            "What a reader takes the file for depends on where it starts; such bytes can be a "
            "program or another model."
        ),
        hint="Get the file again from its publisher.",
    ),
    RuleId.RECORD_SIZE_MISMATCH: Rule(
        Severity.LOW,
        title="a storage is not as long as the pickle says",
        why="A plain load fails on it; with mmap the program reads what lies behind.",
        hint="Compare the file's size with the one published and download it again.",
    ),
    RuleId.RECORDS_NOT_FETCHED: Rule(
        Severity.INFO,
        title="records of tensors that were not fetched",
        why=(
            "The file is large and on a server, and each of them would cost a request. torch takes "
            "them as numbers, whatever they hold; only `numpy.load` with `allow_pickle=True`, "
            "called on a checkpoint, would unpickle one that begins as an array file does."
        ),
        hint="Nothing, if torch loads it; `--deep` reads all of it, and so does a scan of a copy.",
    ),
    RuleId.STORAGE_CONFLICT: Rule(
        Severity.LOW,
        title="one storage is declared in two ways",
        why=(
            "The first declaration wins in torch, another reader may take the last: the tensors "
            "differ."
        ),
        hint="Get the file again from its publisher.",
    ),
    RuleId.TENSOR_BOMB: Rule(
        Severity.LOW,
        title="a tensor claims far more elements than the file has bytes",
        why=(
            "Strides of zero, and thousands of views of one storage, let a few bytes stand for "
            "terabytes: a program that copies the tensors exhausts the machine."
        ),
        hint="Get the file again from its publisher.",
    ),
    RuleId.TENSOR_OUT_OF_BOUNDS: Rule(
        Severity.LOW,
        title="a tensor reaches outside of its storage",
        why="A careful loader refuses it; a careless one reads memory that is not the tensor's.",
        hint="Get the file again from its publisher.",
    ),
    RuleId.TORCHSCRIPT: Rule(
        Severity.LOW,
        title="a TorchScript program, not weights",
        why=(
            "It carries code that runs when the model is used. sdtool lists that code and does not "
            "judge it."
        ),
        hint="Ask its publisher for the weights, saved from `module.state_dict()`.",
    ),
    RuleId.TRAILING_DATA: Rule(
        Severity.LOW,
        title="bytes stand behind the end",
        why="No loader of weights reads them; another one may take them for the file itself.",
        hint=(
            "Get the file again from its publisher, or convert it: the new file holds the tensors "
            "only."
        ),
    ),
    RuleId.TRUNCATED_NAME: Rule(
        Severity.LOW,
        title="the file ends in the middle of a name",
        why="One unpickler fails here, another imports the name without its last character.",
        hint="Compare the file's size with the one published and download it again.",
    ),
    RuleId.UNKNOWN_CALL: Rule(
        Severity.LOW,
        title="it uses a known name in an unknown way",
        why=(
            "The name is in honest files, but no honest writer calls it with these arguments, so "
            "nobody vouches for what happens."
        ),
        hint=(
            "Convert to safetensors, which leaves it behind, or ask the publisher how it was "
            "written."
        ),
    ),
    RuleId.UNKNOWN_GLOBAL: Rule(
        Severity.LOW,
        title="it names what no weights need",
        why="Loading imports this name and may call it; nobody vouches that it is inert.",
        hint=(
            "Convert to safetensors, which leaves it behind. If you know the name and trust it: "
            "--allow NAME."
        ),
    ),
    RuleId.UNKNOWN_STATE: Rule(
        Severity.LOW,
        title="it changes an object in an unknown way",
        why=(
            "The object is of a kind that honest files hold, but no honest writer fills it like "
            "this, so nobody vouches for what happens."
        ),
        hint=(
            "Convert to safetensors, which leaves it behind, or ask the publisher how it was "
            "written."
        ),
    ),
    RuleId.UNUSED_BYTES: Rule(
        Severity.INFO,
        title="bytes that nothing in the file refers to",
        why="They are too few or too plain to be a pickle, and no loader reads them.",
        hint="Nothing, or convert it: the new file holds the tensors only.",
    ),
}
"""In the order of their ids."""

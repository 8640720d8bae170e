"""Rules for pickles: names, calls, states, opcodes."""

from __future__ import annotations

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Rule, Severity
from sdtool.scan.rules.hints import ASK, COMPARE, CONVERT_OR_ASK, DELETE, DO_NOT_LOAD

RULES: dict[RuleId, Rule] = {
    RuleId.ALIAS_BOMB: Rule(
        Severity.LOW,
        title="nested references expand to an enormous number of values",
        why=(
            "Every level refers to the one below several times. A program that walks or copies the "
            "value never finishes."
        ),
        hint=DELETE,
    ),
    RuleId.ALLOWED_GLOBAL: Rule(
        Severity.INFO,
        title="a name that you allowed",
        why="The name is on your allowlist.",
        hint="Nothing.",
    ),
    RuleId.BUFFER_OPCODE: Rule(
        Severity.LOW,
        title="requires buffers from outside the file",
        why=(
            "Out-of-band buffers come from a running program. A file that needs them cannot be "
            "loaded on its own."
        ),
        hint="Ask the publisher for a complete file.",
    ),
    RuleId.COMPUTED_NAME: Rule(
        Severity.HIGH,
        title="computes the name that it imports",
        why=(
            "The name is assembled while loading, which hides it from anyone who reads the file. "
            "No serializer does that."
        ),
        hint=DO_NOT_LOAD,
    ),
    RuleId.DANGEROUS_CALL: Rule(
        Severity.CRITICAL,
        title="calls a harmless name in a harmful way",
        why=(
            "Well-formed files use the name too, but with these arguments it reaches code that the "
            "file chooses."
        ),
        hint=DO_NOT_LOAD,
    ),
    RuleId.DANGEROUS_GLOBAL: Rule(
        Severity.CRITICAL,
        title="references a dangerous function",
        why=(
            "Loading the file imports this name, and a call passes it arguments from the file. "
            "That is how a model runs a program."
        ),
        hint=DO_NOT_LOAD,
    ),
    RuleId.DOTTED_NAME: Rule(
        Severity.LOW,
        title="dotted attribute path",
        why=(
            "The dots lead from one module through its attributes to any other. Where such a path "
            "ends is not on the allowlist."
        ),
        hint=(
            "Convert it to safetensors: the new file holds only the tensors. If you know and trust "
            "the name, use --allow MODULE:NAME."
        ),
    ),
    RuleId.ESCAPED_MUTATION: Rule(
        Severity.LOW,
        title="an argument is changed after it was used",
        why=(
            "The call received something other than what the file shows in the end, so its real "
            "arguments are hidden."
        ),
        hint=ASK,
    ),
    RuleId.EXTENSION_CODE: Rule(
        Severity.LOW,
        title="references a name by number",
        why=(
            "An extension code stands for whatever name a program has registered for it. The file "
            "does not say which."
        ),
        hint="Ask the publisher for a file without copyreg extensions.",
    ),
    RuleId.FRAME_PAST_END: Rule(
        Severity.LOW,
        title="a frame is longer than the file",
        why=(
            "The C unpickler rejects it, while the Python unpickler (joblib, dill) runs what is "
            "there. The file was cut off, or made so that only some loaders run it."
        ),
        hint=COMPARE,
    ),
    RuleId.FRAME_PAST_STOP: Rule(
        Severity.LOW,
        title="a frame continues past the end of its pickle",
        why=(
            "It carries bytes that no loader interprets, in a place where no serializer leaves any."
        ),
        hint=ASK,
    ),
    RuleId.HASH_COLLISION: Rule(
        Severity.LOW,
        title="the keys of a dict or set were made to collide",
        why="Python compares each of them with all the others, so loading the file takes hours.",
        hint=DELETE,
    ),
    RuleId.LOADER_DISAGREEMENT: Rule(
        Severity.LOW,
        title="loaders disagree on how to read this",
        why=(
            "One loader fails where another continues, so what is harmless in one may run in "
            "another. No serializer writes this."
        ),
        hint=ASK,
    ),
    RuleId.MEMO_INDEX: Rule(
        Severity.LOW,
        title="an enormous memo index",
        why=(
            "The C unpickler allocates memory up to the index, so a few bytes of the file can "
            "exhaust memory."
        ),
        hint=DELETE,
    ),
    RuleId.NESTED_FRAME: Rule(
        Severity.LOW,
        title="a frame begins inside another frame",
        why=(
            "The C and the Python unpickler read the bytes after it differently. No serializer "
            "writes this."
        ),
        hint=ASK,
    ),
    RuleId.NESTED_PICKLE: Rule(
        Severity.INFO,
        title="a pickle inside the pickle",
        why=(
            "The loader is given bytes that are a pickle of their own. sdtool reads them too and "
            "lists what it finds."
        ),
        hint="Nothing, if there are no other findings.",
    ),
    RuleId.ODD_NAME: Rule(
        Severity.HIGH,
        title="a name with characters that no name has",
        why=(
            "A NUL, a space, a control character or a look-alike makes a scanner see a different "
            "name from the one that Python imports."
        ),
        hint=DO_NOT_LOAD,
    ),
    RuleId.ODD_PERSISTENT_ID: Rule(
        Severity.LOW,
        title="asks the loader for something other than a storage",
        why="torch only knows storages. Other loaders may do other things with such a request.",
        hint=ASK,
    ),
    RuleId.ODD_TARGET: Rule(
        Severity.HIGH,
        title="calls or modifies something other than an imported name",
        why=(
            "It calls the result of another call, or modifies an imported object, so the file does "
            "not show what runs. Real serializers only call imported names."
        ),
        hint="Do not load this file. Delete it and download it again from its publisher.",
    ),
    RuleId.OPCODE_CROSSES_FRAME: Rule(
        Severity.HIGH,
        title="an opcode crosses the end of its frame",
        why=(
            "Loaders read such an opcode differently: torch.load sees other names or other memo "
            "entries than a plain reader does. The same file can be harmless in one and run code "
            "in the other. No serializer writes this."
        ),
        hint="Delete the file and download it again from its publisher.",
    ),
    RuleId.OVERSIZED_ARGUMENT: Rule(
        Severity.LOW,
        title="a call asks for an enormous result",
        why="A few bytes of the file make the loader allocate or compute without end.",
        hint=DELETE,
    ),
    RuleId.PICKLED_MODEL: Rule(
        Severity.LOW,
        title="a whole pickled model, not weights",
        why=(
            "It contains objects of a program. It only loads where that program is installed, and "
            "loading runs the program's code, which the file does not contain and which cannot be "
            "checked."
        ),
        hint=(
            "Look for a safetensors version; sdtool convert extracts the tensors. docs/rules.md "
            "has profiles for well-known models."
        ),
    ),
    RuleId.TRUNCATED_NAME: Rule(
        Severity.LOW,
        title="the file ends in the middle of a name",
        why="One unpickler fails here, another imports the name without its last character.",
        hint=COMPARE,
    ),
    RuleId.UNKNOWN_CALL: Rule(
        Severity.LOW,
        title="uses a known name in an unknown way",
        why=(
            "Well-formed files use the name, but never with these arguments. What the call does is "
            "unknown."
        ),
        hint=CONVERT_OR_ASK,
    ),
    RuleId.UNKNOWN_GLOBAL: Rule(
        Severity.LOW,
        title="references a name that weights do not need",
        why="Loading imports this name and may call it. It is not on the allowlist.",
        hint=(
            "Convert it to safetensors: the new file holds only the tensors. If you know and trust "
            "the name, use --allow NAME."
        ),
    ),
    RuleId.UNKNOWN_STATE: Rule(
        Severity.LOW,
        title="sets unexpected state on an object",
        why=(
            "Well-formed files contain objects of this kind, but never set this state. What it "
            "does is unknown."
        ),
        hint=CONVERT_OR_ASK,
    ),
}

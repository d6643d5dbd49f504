""".fbs text to a syntax tree. Nothing is looked up here: names stay names, and every node knows its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn

from varve.codec.fbs_lexer import At, Token, fbs_error, tokens

__all__ = ["Attributes", "Enum", "FbsFile", "Field", "Include", "Member", "Record", "TypeName", "Value", "parse_fbs"]


@dataclass(frozen=True, slots=True)
class Value:
    """A constant: ``what`` is ``number``, ``word`` (dotted), ``string`` or ``list`` (always empty)."""

    what: str
    text: str
    at: At
    negative: bool = False


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type as written: a dotted name, in a vector or in an array of ``length``."""

    name: str
    at: At
    vector: bool = False
    length: int = 0


Attributes = dict[str, tuple[Value | None, At]]
"""The values in parentheses, by name."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a table or struct."""

    name: str
    at: At
    type: TypeName
    default: Value | None
    attributes: Attributes
    doc: str


@dataclass(frozen=True, slots=True)
class Record:
    """A table or struct; ``namespace`` is the dotted one it stands in."""

    what: str
    name: str
    at: At
    namespace: str
    fields: tuple[Field, ...]
    attributes: Attributes
    doc: str


@dataclass(frozen=True, slots=True)
class Member:
    """A value of an enum, or a member of a union (``type``)."""

    name: str
    at: At
    value: Value | None
    type: TypeName | None
    attributes: Attributes
    doc: str


@dataclass(frozen=True, slots=True)
class Enum:
    """An enum (stored as ``base``) or a union."""

    what: str
    name: str
    at: At
    namespace: str
    base: TypeName | None
    members: tuple[Member, ...]
    attributes: Attributes
    doc: str


@dataclass(frozen=True, slots=True)
class Include:
    """``include "path";``"""

    path: str
    at: At


@dataclass
class FbsFile:
    """One parsed file."""

    path: str
    includes: list[Include] = field(default_factory=list)
    declarations: list[Record | Enum] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    root_type: TypeName | None = None
    root_namespace: str = ""
    file_identifier: str | None = None
    file_extension: str | None = None


def parse_fbs(text: str, path: str) -> FbsFile:
    """The syntax tree of a file's text; ``path`` is for error messages. Raises SchemaError with line and column."""
    return _Parser(text, path).file()


FUNCTIONS: Final = frozenset(["deg", "rad", "cos", "sin", "tan", "acos", "asin", "atan"])
"""What flatc computes in constants; any other word before a parenthesis is followed by attributes."""


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self.tokens = tokens(text, path)
        self.at = 0
        self.out = FbsFile(path)
        self.namespace = ""

    # -- words -------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        found = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return found

    def fail(self, wanted: str) -> NoReturn:
        raise fbs_error(self.now.at, f"expected {wanted}, not {self.shown()}")

    def shown(self) -> str:
        return self.now.text if self.now.what == "end" else repr(self.now.text[:40])

    def want(self, what: str, meaning: str = "") -> Token:
        if self.now.what != what:
            self.fail(meaning or (what if what.isalpha() else repr(what)))
        return self.next()

    def found(self, what: str) -> bool:
        """Step over a punctuation mark if it is there."""
        if self.now.what != what:
            return False
        self.at += 1
        return True

    def dotted(self, meaning: str) -> str:
        parts = [self.want("word", meaning).text]
        while self.found("."):
            parts.append(self.want("word", "a name after the dot").text)
        return ".".join(parts)

    # -- declarations ------------------------------------------------------------------------------------------------

    def file(self) -> FbsFile:
        statements = {
            "attribute": self.attribute_statement,
            "enum": self.enum,
            "file_extension": self.file_extension,
            "file_identifier": self.file_identifier,
            "include": self.include,
            "namespace": self.namespace_statement,
            "native_include": self.native_include,
            "root_type": self.root_type,
            "rpc_service": self.rpc_service,
            "struct": self.record,
            "table": self.record,
            "union": self.enum,
        }
        while self.now.what != "end":
            if self.now.what == "{":
                raise fbs_error(self.now.at, "a JSON object in a schema is not supported")
            statement = statements.get(self.now.text) if self.now.what == "word" else None
            if statement is None:
                self.fail("a declaration (table, struct, enum, union, namespace, include, root_type ...)")
            statement()
        return self.out

    def include(self) -> None:
        at = self.next().at
        self.out.includes.append(Include(self.want("string", "the path of a file in quotes").text, at))
        self.want(";")

    def native_include(self) -> None:
        self.next()
        self.want("string", "a path in quotes")
        self.want(";")

    def namespace_statement(self) -> None:
        self.next()
        self.namespace = "" if self.now.what == ";" else self.dotted("the name of a namespace")
        self.want(";")

    def attribute_statement(self) -> None:
        self.next()
        if self.now.what not in {"word", "string"}:
            self.fail("the name of an attribute")
        self.out.attributes.add(self.next().text)
        self.want(";")

    def root_type(self) -> None:
        self.next()
        at = self.now.at
        self.out.root_type = TypeName(self.dotted("the name of a table"), at)
        self.out.root_namespace = self.namespace
        self.want(";")

    def file_identifier(self) -> None:
        self.next()
        found = self.want("string", "four characters in quotes")
        if len(found.text.encode()) != 4:
            raise fbs_error(found.at, "a file_identifier has exactly four bytes")
        self.out.file_identifier = found.text
        self.want(";")

    def file_extension(self) -> None:
        self.next()
        self.out.file_extension = self.want("string", "an extension in quotes").text
        self.want(";")

    def rpc_service(self) -> None:
        """Services describe calls, not data: skipped."""
        self.next()
        self.want("word", "the name of a service")
        self.want("{")
        while not self.found("}"):
            if self.now.what in {"end", "{"}:
                self.fail("'}'")
            self.next()

    def record(self) -> None:
        first = self.next()
        name = self.want("word", f"the name of the {first.text}")
        attributes = self.attributes()
        self.want("{")
        fields = []
        while not self.found("}"):
            fields.append(self.field())
        self.out.declarations.append(
            Record(first.text, name.text, name.at, self.namespace, tuple(fields), attributes, doc_text(first))
        )

    def field(self) -> Field:
        name = self.want("word", "the name of a field, or '}'")
        self.want(":")
        type_name = self.type_name()
        default = self.value() if self.found("=") else None
        attributes = self.attributes()
        self.want(";")
        return Field(name.text, name.at, type_name, default, attributes, doc_text(name))

    def enum(self) -> None:
        first = self.next()
        name = self.want("word", f"the name of the {first.text}")
        base = self.type_name() if self.found(":") else None
        if base is None and first.text == "enum":
            raise fbs_error(name.at, f"say how the enum is stored: enum {name.text} : byte")
        attributes = self.attributes()
        self.want("{")
        members = []
        while not self.found("}"):
            members.append(self.member(first.text))
            if not self.found(",") and self.now.what != "}":
                self.fail("',' or '}'")
        self.out.declarations.append(
            Enum(first.text, name.text, name.at, self.namespace, base, tuple(members), attributes, doc_text(first))
        )

    def member(self, what: str) -> Member:
        first = self.now
        name, type_name = self.dotted("the name of a member"), None
        if what == "union":
            type_name = self.type_name() if self.found(":") else TypeName(name, first.at)
        elif "." in name:
            raise fbs_error(first.at, "the name of an enum's value has no dots")
        value = self.value() if self.found("=") else None
        return Member(name, first.at, value, type_name, self.attributes(), doc_text(first))

    # -- parts of declarations ---------------------------------------------------------------------------------------

    def type_name(self) -> TypeName:
        at = self.now.at
        if not self.found("["):
            return TypeName(self.dotted("a type"), at)
        if self.now.what == "[":
            raise fbs_error(self.now.at, "a vector of vectors cannot be stored; put the inner one into a table")
        name, length = self.dotted("the type of the items"), 0
        if self.found(":"):
            number = self.want("number", "the number of items")
            length = int(number.text) if number.text.isdecimal() and len(number.text) < 9 else 0
            if not 0 < length < 2**16:
                raise fbs_error(number.at, "an array holds 1 .. 65535 items")
        self.want("]")
        return TypeName(name, at, not length, length)

    def attributes(self) -> Attributes:
        out: Attributes = {}
        if not self.found("("):
            return out
        while True:
            if self.now.what not in {"word", "string"}:
                self.fail("the name of an attribute")
            name = self.next()
            if name.text in out:
                raise fbs_error(name.at, f"attribute {name.text!r} stands here twice")
            out[name.text] = (self.value() if self.found(":") else None, name.at)
            if not self.found(","):
                break
        self.want(")")
        return out

    def value(self) -> Value:
        at = self.now.at
        negative = False
        if self.now.what in {"+", "-"}:
            negative = self.next().what == "-"
            if self.now.what not in {"number", "word"}:
                self.fail("a number")
        if self.now.what == "number":
            return Value("number", self.next().text, at, negative)
        if self.now.what == "string":
            return Value("string", self.next().text, at)
        if self.found("["):
            if self.now.what != "]":
                raise fbs_error(self.now.at, "the default of a vector can only be empty: []")
            self.next()
            return Value("list", "[]", at)
        word = self.dotted("a value")
        if self.now.what == "(" and word in FUNCTIONS:
            raise fbs_error(at, f"functions in constants ({word}) are not supported; write the number")
        return Value("word", word, at, negative)


def doc_text(token: Token) -> str:
    """The ``///`` lines before a word, without their common blank."""
    lines = [line.removeprefix(" ") for line in token.doc]
    return "\n".join(lines).strip("\n").strip()

"""What the Python code that flatc generated says of its schema.

A class made by ``flatc --python --gen-object-api`` carries no schema, but each accessor spells out one field: its place in
the vtable, how it is read, what it is when absent. This module reads that out of the syntax tree of the generated source, for
the event class and for every class that it refers to. What generated code does not say: the spelling of field names in the
.fbs (they come back as ``snake_case``, which the .fbs style guide asks for), enums (they are plain numbers), ``required`` and
``key``, what ``force_align`` asks of vectors, and the name and type of deprecated fields.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final, NoReturn

from varve import limits
from varve.codec.check import round_f32
from varve.codec.plan import plan_struct
from varve.codec.schema import ALIGNMENTS, SCALARS, FieldDef, Kind, TypeDef
from varve.errors import SchemaError

__all__ = ["Generated", "GeneratedField", "accessor_of", "is_accessor", "read_generated"]

FLAGS: Final = {
    "BoolFlags": "bool",
    **{f"{'Uint' if tag[0] == 'u' else 'Int'}{tag[1:]}Flags": tag for tag in SCALARS if tag[0] in "ui"},
    "Float32Flags": "f32",
    "Float64Flags": "f64",
}
"""How generated code names the numbers that it reads."""

ZERO: Final = {"bool": False, "f32": 0.0, "f64": 0.0}
HELPERS: Final = ("VectorLen", "GetVectorAsNumpy", "GetRootAs")
"""What calls begin with that mark a method as one that only helps with a field: its length, a numpy array of it, a nested root
(``GetRootAsOrder``)."""


@dataclass(frozen=True, slots=True)
class GeneratedField:
    """One field: its vtable slot (in a struct: its place), the accessor's method, the object's attribute, and what can be known
    of it as part of a schema. ``tag_attr`` is the attribute that says which member of a union is there."""

    slot: int
    method: str
    attr: str
    field: FieldDef
    tag_attr: str = ""


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated table or struct. ``slots`` counts the vtable's entries, those of deprecated fields too."""

    cls: type
    object_cls: type
    what: str
    name: str
    fields: tuple[GeneratedField, ...]
    slots: int
    align: int = 0

    def holes(self) -> list[int]:
        """Slots of deprecated fields, of which generated code says nothing."""
        known = {f.slot for f in self.fields} | {f.slot - 1 for f in self.fields if f.field.kind.tag == "union"}
        return [slot for slot in range(self.slots) if slot not in known]

    def definition(self) -> TypeDef:
        """The type as part of a schema, as far as generated code tells. Raises SchemaError where fields are deprecated."""
        holes = self.holes() if self.what == "table" else []
        if holes:
            raise untold(
                self.cls, f"field {holes[0]} is deprecated, and generated code keeps neither its name nor its type"
            )
        return TypeDef(self.what, self.name, fields=tuple(f.field for f in self.fields), align=self.align)


def is_accessor(cls: Any) -> bool:
    """Whether a class looks like a table's accessor by flatc."""
    return isinstance(cls, type) and "GetRootAs" in cls.__dict__ and callable(getattr(cls, "Init", None))


def accessor_of(cls: type) -> type | None:
    """The accessor of a generated class: itself, or that of which it is the object API; None for any other class."""
    if is_accessor(cls):
        return cls
    if cls.__name__.endswith("T") and "InitFromObj" in cls.__dict__ and "Pack" in cls.__dict__:
        found = getattr(sys.modules.get(cls.__module__), cls.__name__[:-1], None)
        if isinstance(found, type) and is_accessor(found):
            return found
    return None


def read_generated(cls: type) -> dict[str, Generated]:
    """Every generated class that an event class needs, by type name, the event class first. Raises SchemaError."""
    return _Reader().read(cls)


def untold(cls: type, why: str) -> SchemaError:
    """The error for what generated code does not tell."""
    return SchemaError(
        f"{cls.__module__}.{cls.__qualname__}: {why}. Give the schema too: varve.schema.flatc({cls.__name__}, 'path/to.fbs')"
    )


def strange(cls: type, why: str) -> SchemaError:
    """The error for generated code of a shape that is not known, or that cannot work."""
    return SchemaError(
        f"{cls.__module__}.{cls.__qualname__} cannot be an event type: {why}. varve.schema.load makes event classes of .fbs files"
    )


class _Strange(Exception):
    """Generated code that does not look as expected; ``read_class`` adds where."""


class _Module:
    """Syntax tree of a generated module."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        try:
            body = ast.parse(inspect.getsource(module)).body
        except (OSError, TypeError, SyntaxError, ValueError) as error:
            raise _Strange(f"its source cannot be read ({error}), and the schema is read from it") from error
        self.classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        self.functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}

    def resolve(self, dotted: str, inside: ast.AST) -> Any:
        """What a dotted name means in a function of this module, which may import it on the spot."""
        head, *rest = dotted.split(".")
        found: Any = None
        for node in ast.walk(inside):
            if isinstance(node, ast.ImportFrom) and node.module and any(a.name == head for a in node.names):
                found = getattr(_imported(node.module), head, None)
        if found is None:
            found = self.module.__dict__.get(head)
        path = head
        if found is None:
            found = _imported(head)
        for part in rest:
            path += f".{part}"
            inner = getattr(found, part, None)
            if inner is None and isinstance(found, ModuleType):
                inner = _imported(path)
            if inner is None:
                raise _Strange(f"it refers to {dotted}, which does not exist")
            found = inner
        return found


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _Strange(f"it needs {name}, which cannot be imported ({error})") from error


def _calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls inside a node: the last part of what is called, and the call."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            yield _last(inner.func), inner


def _last(node: ast.AST) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _number(node: ast.AST) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise _Strange(f"{ast.unparse(node)!r} stands where a number should")


class _Reader:
    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}
        self.found: dict[str, Generated] = {}
        self.names: dict[type, str] = {}
        self.todo: list[type] = []
        self.structs: dict[str, Generated] = {}

    def read(self, cls: type) -> dict[str, Generated]:
        self.name_of(cls)
        while self.todo:
            self.read_class(self.todo.pop(0))
        for generated in list(self.found.values()):
            if generated.what == "struct":
                self.found[generated.name] = self.check_struct(generated)
        return self.found

    def name_of(self, cls: type) -> str:
        """The type name of a generated class, which will be read too. With a file for each class, which is flatc's way, the
        module's name is the full name of the type; a single file does not tell the namespace."""
        if cls not in self.names:
            one_file = cls.__module__.rpartition(".")[2] != cls.__name__
            name = cls.__name__ if one_file else cls.__module__
            if name in self.names.values():
                raise strange(cls, f"it needs two different types named {name!r}")
            self.names[cls] = name
            self.todo.append(cls)
        return self.names[cls]

    def module(self, name: str) -> _Module:
        if name not in self.modules:
            self.modules[name] = _Module(_imported(name))
        return self.modules[name]

    def read_class(self, cls: type) -> None:
        """One class, whose references are then read too. Raises SchemaError."""
        name = self.names[cls]
        try:
            module = self.module(cls.__module__)
            object_cls = getattr(module.module, f"{cls.__name__}T", None)
            if not isinstance(object_cls, type) or not callable(getattr(object_cls, "Pack", None)):
                self.fail(f"{cls.__name__}T is missing; generate it with flatc --python --gen-object-api")
            if getattr(module.module, cls.__name__, None) is not cls:
                self.fail(f"its module {cls.__module__} does not hold it any more")
            accessor, held = module.classes.get(cls.__name__), module.classes.get(object_cls.__name__)
            if accessor is None or held is None:
                self.fail("its source does not declare it")
            one = _Class(self, module, accessor, held)
            if is_accessor(cls):
                self.found[name] = Generated(cls, object_cls, "table", name, one.table_fields(), one.slots())
            else:
                self.found[name] = Generated(cls, object_cls, "struct", name, one.struct_fields(), 0, one.asked_align())
        except (_Strange, AttributeError, IndexError, ValueError) as error:
            raise strange(cls, str(error)) from error
        if len(self.found) > limits.FIELDS_MAX:
            raise strange(cls, f"its schema has more than {limits.FIELDS_MAX} types")

    @staticmethod
    def fail(why: str) -> NoReturn:
        """Give up; ``read_class`` says where."""
        raise _Strange(why)

    def check_struct(self, generated: Generated) -> Generated:
        """The struct with the alignment it asks for beyond its fields', if any; places and size must come out the same."""
        if generated.name in self.structs:
            return self.structs[generated.name]
        cls: Any = generated.cls
        asked = generated.align
        for align in (0, asked):
            if align not in {0, *ALIGNMENTS}:
                raise strange(cls, f"it is aligned to {align} bytes; events begin at multiples of 8")
            plan = plan_struct(replace(generated, align=align).definition(), self.plan_of, self.base_of)
            if plan.align == max(asked, plan.align) and plan.size == cls.SizeOf():
                if list(plan.offsets) != [f.slot for f in generated.fields]:
                    break
                self.structs[generated.name] = replace(generated, align=align)
                return self.structs[generated.name]
        raise strange(cls, "the places of its fields are not those of a struct")

    def plan_of(self, name: str) -> Any:
        return plan_struct(self.check_struct(self.found[name]).definition(), self.plan_of, self.base_of)

    @staticmethod
    def base_of(name: str) -> str:
        raise AssertionError(name)  # pragma: no cover - generated code has no enums

    def kind_of(self, cls: Any) -> Kind:
        """The kind of a field that holds a generated class."""
        if not isinstance(cls, type) or not callable(getattr(cls, "Init", None)):
            raise _Strange(f"{cls!r} is no generated class")
        return Kind("table" if is_accessor(cls) else "struct", name=self.name_of(cls))


class _Class:
    """The syntax trees of one accessor and its object class."""

    def __init__(self, reader: _Reader, module: _Module, accessor: ast.ClassDef, held: ast.ClassDef) -> None:
        self.reader = reader
        self.module = module
        self.name = accessor.name
        self.methods = [node for node in accessor.body if isinstance(node, ast.FunctionDef)]
        self.held = {node.name: node for node in held.body if isinstance(node, ast.FunctionDef)}

    # -- what belongs together ---------------------------------------------------------------------------------------

    def attributes(self, methods: list[ast.FunctionDef]) -> dict[str, str]:
        """The object's attribute for each accessor method: both stand in the order of the fields."""
        found: list[str] = []
        for node in ast.walk(self.held.get("__init__", ast.Pass())):
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            found += [t.attr for t in targets if isinstance(t, ast.Attribute) and ast.unparse(t.value) == "self"]
        pairs = dict(zip([m.name for m in methods], found, strict=False))
        if len(found) != len(methods) or any(_plain(m) != _plain(attr) for m, attr in pairs.items()):
            raise _Strange(f"the attributes of {self.name}T ({', '.join(found)}) are not those of its accessors")
        return pairs

    def field_names(self, pairs: dict[str, str]) -> dict[str, str]:
        """Names of the fields: ``orderId`` is ``order_id``, unless another field has that name already."""
        out: dict[str, str] = {}
        for attr in pairs.values():
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", attr).lower()
            out[attr] = attr if name in out.values() else name
        return out

    def function(self, *names: str) -> ast.FunctionDef | None:
        """The module's function of the first of these names that it has."""
        return next((self.module.functions[name] for name in names if name in self.module.functions), None)

    # -- tables ------------------------------------------------------------------------------------------------------

    def slots(self) -> int:
        """Entries of the vtable."""
        start = self.function(f"{self.name}Start", "Start")
        for called, call in _calls(start) if start is not None else ():
            if called == "StartObject":
                return _number(call.args[0])
        raise _Strange(f"{self.name}Start is missing")

    def table_fields(self) -> tuple[GeneratedField, ...]:
        """In order of their slots."""
        methods: list[ast.FunctionDef] = []
        slots: dict[str, int] = {}
        for method in self.methods:
            called = dict(_calls(method))
            returned = [node.value for node in ast.walk(method) if isinstance(node, ast.Return)]
            is_none = any(isinstance(value, ast.Compare) for value in returned)
            if "Offset" in called and not is_none and not any(name.startswith(HELPERS) for name in called):
                methods.append(method)
                slots[method.name] = (_number(called["Offset"].args[0]) - 4) // 2
        pairs = self.attributes(methods)
        names = self.field_names(pairs)
        by_slot = {slots[method.name]: method for method in methods}
        if len(by_slot) != len(methods):
            raise _Strange("two of its accessors read the same slot")
        out: list[GeneratedField] = []
        for slot, method in sorted(by_slot.items()):
            attr = pairs[method.name]
            if "Union" not in dict(_calls(method)):
                out.append(GeneratedField(slot, method.name, attr, self.plain_field(names[attr], method)))
                continue
            # The number of a union's member stands before it.
            tag = by_slot.get(slot - 1)
            if tag is None or not out or out[-1].method != tag.name:
                raise _Strange(f"{method.name} is a union without its type")
            out.pop()
            kind = Kind("union", names=self.members(attr))
            out.append(GeneratedField(slot, method.name, attr, FieldDef(names[attr], kind, True), pairs[tag.name]))
        return tuple(out)

    def plain_field(self, name: str, method: ast.FunctionDef) -> FieldDef:
        called = dict(_calls(method))
        if "Vector" in called:
            return FieldDef(name, self.vector(method, called), True)
        if "Get" in called:
            return self.scalar_field(name, self.scalar(called["Get"]), method)
        if "String" in called:
            default = self.absent(method)
            if default is None:
                return FieldDef(name, Kind("str"), True)
            return FieldDef(name, Kind("str"), False, default.decode() if isinstance(default, bytes) else str(default))
        if "Init" in called:
            return FieldDef(name, self.reader.kind_of(self.class_in(method)), True)
        raise _Strange(f"{method.name} reads in a way that is not known")

    def scalar(self, get: ast.Call) -> str:
        tag = FLAGS.get(_last(get.args[0]))
        if tag is None:
            raise _Strange(f"{ast.unparse(get.args[0])} is no number that is known")
        return tag

    def scalar_field(self, name: str, tag: str, method: ast.FunctionDef) -> FieldDef:
        value = self.absent(method)
        if value is None:
            return FieldDef(name, Kind(tag), True)
        if not isinstance(value, (bool, int, float)):
            raise _Strange(f"{method.name} is {value!r} when absent")
        if tag == "bool":
            return FieldDef(name, Kind(tag), default=bool(value))
        if tag not in ZERO:
            return FieldDef(name, Kind(tag), default=int(value))
        number = float(round_f32(float(value))) if tag == "f32" else float(value)
        text = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
        return FieldDef(name, Kind(tag), default=number if math.isfinite(number) else text)

    @staticmethod
    def absent(method: ast.FunctionDef) -> Any:
        """What an accessor returns for an absent field."""
        last = method.body[-1]
        value = last.value if isinstance(last, ast.Return) else None
        if value is None:
            raise _Strange(f"{method.name} does not end with what an absent field is")
        if isinstance(value, ast.Call) and _last(value.func) in {"float", "bool"} and len(value.args) == 1:
            made = ast.literal_eval(value.args[0])
            return float(made) if _last(value.func) == "float" else bool(made)
        try:
            return ast.literal_eval(value)
        except ValueError:
            raise _Strange(f"{method.name} is {ast.unparse(value)} when absent") from None

    def class_in(self, method: ast.FunctionDef) -> Any:
        """The class that an accessor makes: ``obj = Item()``."""
        for node in ast.walk(method):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and ast.unparse(node.targets[0]) == "obj"
            ):
                return self.module.resolve(ast.unparse(node.value.func), method)
        raise _Strange(f"{method.name} does not say what it holds")

    def vector(self, method: ast.FunctionDef, called: dict[str, ast.Call]) -> Kind:
        if "Get" in called:
            tag = self.scalar(called["Get"])
            return Kind("bytes") if tag == "u8" else Kind("vector", item=Kind(tag))
        if "String" in called:
            return Kind("vector", item=Kind("str"))
        if "Init" in called:
            return Kind("vector", item=self.reader.kind_of(self.class_in(method)))
        raise _Strange(f"{method.name} is a vector of what is not known")

    def members(self, attr: str) -> tuple[str, ...]:
        """Names of a union's members in order of their numbers, out of the function that makes the objects."""
        unpack = self.held.get("_UnPack", ast.Pass())
        for node in ast.walk(unpack):
            if not isinstance(node, ast.Assign) or ast.unparse(node.targets[0]) != f"self.{attr}":
                continue
            if isinstance(node.value, ast.Call) and _last(node.value.func).endswith("Creator"):
                return self.members_made_by(self.module.resolve(ast.unparse(node.value.func), unpack))
        raise _Strange(f"the object class does not say what the union {attr} holds")

    def members_made_by(self, creator: Any) -> tuple[str, ...]:
        module = self.reader.module(creator.__module__)
        made: dict[int, str] = {}
        for node in ast.walk(module.functions.get(creator.__name__, ast.Pass())):
            if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
                continue
            if ast.unparse(node.test.left) != "unionType":
                continue
            label = ast.unparse(node.test.comparators[0]).replace("()", "")
            number = module.resolve(label, node)
            last = node.body[-1]
            if not isinstance(last, ast.Return) or not isinstance(last.value, ast.Call) or type(number) is not int:
                raise _Strange(f"member {label} of a union is not known")
            path, _, call = ast.unparse(last.value.func).rpartition(".")
            member = accessor_of(module.resolve(path, node)) if call == "InitFromBuf" else None
            if member is None:
                raise _Strange(f"member {label} of a union is no table")
            made[number] = self.reader.name_of(member)
        names = tuple(name for _, name in sorted(made.items()))
        if sorted(made) != list(range(1, len(made) + 1)) or not names or len(set(names)) != len(names):
            raise _Strange("a union's members must be tables, numbered 1, 2, 3 ..., none of them twice")
        return names

    # -- structs -----------------------------------------------------------------------------------------------------

    def struct_fields(self) -> tuple[GeneratedField, ...]:
        """In order of their places."""
        found: dict[str, tuple[int, Kind]] = {}
        methods = []
        for method in self.methods:
            called = dict(_calls(method))
            if "Get" in called:
                found[method.name] = self.inline(method, called["Get"])
            elif "Init" in called:
                found[method.name] = self.place(called["Init"].args[1], method), Kind("struct")
            else:
                continue
            methods.append(method)
        pairs = self.attributes(methods)
        names = self.field_names(pairs)
        out = []
        for name, (place, kind) in found.items():
            attr = pairs[name]
            known = self.inner_struct(attr) if kind.tag == "struct" else kind
            out.append(GeneratedField(place, name, attr, FieldDef(names[attr], known)))
        return tuple(sorted(out, key=lambda f: f.slot))

    def inline(self, method: ast.FunctionDef, get: ast.Call) -> tuple[int, Kind]:
        """Place and kind of a number or of an array of numbers."""
        kind = Kind(self.scalar(get))
        places = [call.args[0] for called, call in _calls(get) if called == "py_type"]
        if len(places) != 1:
            raise _Strange(f"{method.name} reads in a way that is not known")
        if isinstance(places[0], ast.Constant):
            return _number(places[0]), kind
        return self.place(places[0], method), Kind("array", item=kind, length=self.array_length(method))

    @staticmethod
    def place(node: ast.AST, method: ast.FunctionDef) -> int:
        """The constant of ``self._tab.Pos + 16`` or of ``32 + i * 4``."""
        arguments = {a.arg for a in method.args.args} - {"self", "obj"}
        if isinstance(node, ast.BinOp) and "Pos" in ast.unparse(node) and arguments:
            raise _Strange(f"{method.name} is an array of structs, which generated code cannot pack")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _number(node.left if isinstance(node.left, ast.Constant) else node.right)
        raise _Strange(f"{method.name} reads in a way that is not known")

    def array_length(self, method: ast.FunctionDef) -> int:
        for called, call in _calls(method):
            if called == "range" and isinstance(call.args[0], ast.Constant):
                return _number(call.args[0])
        for other in self.methods:
            last = other.body[-1]
            if other.name == f"{method.name}Length" and isinstance(last, ast.Return) and last.value is not None:
                return _number(last.value)
        raise _Strange(f"the length of {method.name} is not known")

    def inner_struct(self, attr: str) -> Kind:
        """The struct inside a struct: only the object class names it."""
        unpack = self.held.get("_UnPack", ast.Pass())
        for node in ast.walk(unpack):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == f"self.{attr}":
                path, _, called = ast.unparse(getattr(node.value, "func", node.value)).rpartition(".")
                if called == "InitFromObj":
                    held = self.module.resolve(path, unpack)
                    home = self.reader.module(held.__module__).module
                    return self.reader.kind_of(getattr(home, held.__name__[:-1], None))
        raise _Strange(f"the object class does not say what {attr} holds")

    def asked_align(self) -> int:
        """The struct's alignment."""
        create = self.function(f"Create{self.name}")
        for called, call in _calls(create) if create is not None else ():
            if called == "Prep":
                return _number(call.args[0])
        raise _Strange(f"Create{self.name} is missing")


def _plain(name: str) -> str:
    """A name without what methods and attributes spell differently."""
    return name.replace("_", "").lower()

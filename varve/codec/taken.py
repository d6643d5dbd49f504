"""Events out of a buffer as plain instances, many of one class: how state that is made of a log anew reads what it is made of.

A view defers reading, and looks into its buffer for as long as it lives; ``owned`` makes a plain instance of one, by way of
everything that holds for any class. Here is code written for one class that does both in one step: one ``struct`` call compares
the head and reads the numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from varve.codec import runtime
from varve.codec.event_type import Build, EventType, open_class, run_source
from varve.codec.pack import Source
from varve.codec.schema import PLAIN_TAGS, SCALARS, FieldDef
from varve.codec.values import owned, owned_value
from varve.codec.view import is_first_text

__all__ = ["taker"]

_WITH_HEAD: Final = frozenset(SCALARS) | {"str", "datetime", "uuid"}
"""What is read, or found, by the call that reads the head."""


def taker(compiled: EventType) -> Callable[[Any, int], Any]:
    """``take(buffer, offset)`` -> the event that begins there, as ``owned`` gives it. The buffer is bytes or a memoryview.

    Raises what reading the fields of its view raises.
    """

    def by_view(buffer: Any, offset: int) -> Any:
        return owned(compiled.view(buffer, offset))

    build = Build(compiled)
    namespace: dict[str, Any] = {
        "CLS": compiled.cls,
        "OPEN": runtime.maker(open_class(compiled.cls)),
        "PREFIX": build.plan.prefix(),
        "StructError": struct.error,
        "U4": runtime.U4,
        "UUID": UUID,
        "by_view": by_view,
        "datetime_of": runtime.datetime_of,
        "owned_value": owned_value,
        "view": compiled.view,
    }
    source = _by_parts(build) if build.optional else _at_once(build, namespace)
    run_source(source, f"{compiled.name} taken", namespace)
    take: Callable[[Any, int], Any] = namespace["take"]
    return take


def _by_parts(build: Build) -> str:
    """Of a class whose heads vary: each field as a view finds it."""
    src = Source()
    src.put("def take(b, o):", "    v = view(b, o)", "    e = OPEN()")
    src.put(*(f"    e.{f.name} = {_of_view(f)}" for f in build.fields))
    src.put("    e.__class__ = CLS", "    return e")
    return src.text()


def _at_once(build: Build, namespace: dict[str, Any]) -> str:
    """Of a class whose head is always the same, where our packer wrote it."""
    prefix: bytes = namespace["PREFIX"]
    slots = [slot for slot in build.plan.inline if build.fields[slot.field].kind.tag in _WITH_HEAD]
    layout, at = f"<{len(prefix)}s", len(prefix)
    for slot in slots:
        layout += f"{slot.pos - at}x{slot.code}"
        at = slot.pos + slot.size
    text = next((slot for slot in slots if is_first_text(build, slot)), None)
    if text is not None:
        layout += f"{build.plan.end - at}xI"  # the length of the text that stands right behind the table
    namespace["HEAD"] = struct.Struct(layout).unpack_from
    src = Source()
    names = ", ".join(["head", *(f"v{slot.field}" for slot in slots), *(["n"] if text is not None else [])])
    src.put("def take(b, o):", "    try:", f"        {names}{'' if slots else ','} = HEAD(b, o)")
    src.put("    except StructError:", "        return by_view(b, o)")
    behind = f" or v{text.field} != {build.plan.end - text.pos}" if text is not None else ""
    src.put(f"    if head != PREFIX{behind}:", "        return by_view(b, o)", "    e = OPEN()")
    if text is not None:
        src.put(
            f"    p = o + {build.plan.end + 4}", f'    e.{build.fields[text.field].name} = str(b[p : p + n], "utf-8")'
        )
    if any(f.kind.tag not in _WITH_HEAD for f in build.fields):
        src.put("    v = view(b, o)")
    place = {slot.field: slot.pos for slot in slots}
    for index, f in enumerate(build.fields):
        tag = f.kind.tag
        if text is not None and index == text.field:
            continue
        if tag == "str":
            src.put(f"    p = o + {place[index] + 4} + v{index}", "    n = U4(b, p - 4)[0]")
            src.put(f'    e.{f.name} = str(b[p : p + n], "utf-8")')
        elif tag == "datetime":
            src.put(f"    e.{f.name} = datetime_of(v{index})")
        elif tag == "uuid":
            src.put(f"    e.{f.name} = UUID(bytes=v{index})")
        else:
            src.put(f"    e.{f.name} = {f'v{index}' if tag in SCALARS else _of_view(f)}")
    src.put("    e.__class__ = CLS", "    return e")
    return src.text()


def _of_view(f: FieldDef) -> str:
    return f"v.{f.name}" if f.kind.tag in PLAIN_TAGS else f"owned_value(v.{f.name})"

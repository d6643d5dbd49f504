"""Events to FlatBuffers and back. No I/O in this room.

::

    schema.py      the schema model and its canonical text
    declare.py     classes to schemas: @event, @struct
    values.py      events as values: equality, hash, repr, pickle, owned
    check.py       values against types: normalisation, errors that name the field
    plan.py        where each field stands in the bytes
    pack.py        generated packers
    view.py        generated views
    runtime.py     what generated code calls
    event_type.py  EventType: all of it for one class
    digest.py      canonical text by value
    verify.py      untrusted bytes
    evolve.py      what may change between two schemas
    dynamic.py     classes from stored schemas
    json.py        to_dict, to_json, from_json
    fbs.py         classes to .fbs text
    fbs_lexer.py   .fbs text to words, fbs_parser.py to a syntax tree, fbs_load.py to classes
    to_python.py   classes to the source of a module
"""

from varve.codec.declare import event, struct
from varve.codec.dynamic import event_type_from_schema
from varve.codec.event_type import EventType, event_type
from varve.codec.evolve import incompatibilities, misfits
from varve.codec.json import from_json, to_dict, to_json
from varve.codec.values import owned

__all__ = [
    "EventType",
    "event",
    "event_type",
    "event_type_from_schema",
    "from_json",
    "incompatibilities",
    "misfits",
    "owned",
    "struct",
    "to_dict",
    "to_json",
]

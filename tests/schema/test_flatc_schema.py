"""What is read out of generated code is the schema that it was generated from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from codec_models import events_of
from flatc_helpers import as_told, generated, object_of
from generated import event_classes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from official import Accessors, Flatc, as_json

import varve
from varve import SchemaError
from varve.codec import event_type
from varve.codec.official import OfficialType, declare_flatc
from varve.schema import load, to_fbs

few = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # each try starts a compiler: a failure is shown as it was met
)


def test_random_schemas_come_out_of_generated_code(flatc: Flatc) -> None:
    """Derived and loaded schemas agree up to what generated code cannot tell; given the .fbs they are the same. Random objects
    are packed by their own code, and read back by accessors and by the schema alone."""
    seen = dict.fromkeys(["holes", "derived"], 0)

    @given(st.data(), event_classes())
    @few
    def check(data: st.DataObject, cls: Any) -> None:
        package = flatc.to_python(to_fbs(cls), "--gen-object-api")
        folder = Path(sys.path[0])
        loaded = load(folder / "schema.fbs")
        name = f"{package}.{cls.__name__}"
        want = event_type(loaded[name]).schema
        accessor, _ = generated(package, cls.__name__)
        if any(f.deprecated for one in want.types.values() for f in one.fields):
            seen["holes"] += 1
            with pytest.raises(SchemaError, match="is deprecated, and generated code keeps neither its name nor its type"):
                event_type(accessor)
        else:
            seen["derived"] += 1
            assert event_type(accessor).schema.to_bytes() == as_told(want).to_bytes()
        declare_flatc(accessor, loaded)
        official = event_type(accessor)
        assert isinstance(official, OfficialType)
        assert official.schema == want
        if "UUID" in "".join(want.types):
            return  # flatc 2.0 calls CreateUuid of what it named CreateUUID
        accessors = Accessors(package)
        for event in data.draw(st.lists(events_of(loaded[name]), min_size=1, max_size=4)):
            held = object_of(official, event)
            packed = official.pack(held)
            assert len(packed) % 8 == 0
            official.verify(packed)
            usable = as_json(official.declaration, event, deprecated=False)
            assert exactly(accessors.event(official.declaration, packed)) == exactly(usable)
            view = official.view(packed)
            assert exactly(as_json(official.declaration, official.by_value(view), deprecated=False)) == exactly(usable)
            assert official.digest(held) == official.digest(view) == official.digest_packed(packed)

    check()
    assert min(seen.values()) > 3, seen


def exactly(value: Any) -> Any:
    """Comparable, with NaN equal to itself."""
    if isinstance(value, float):
        return repr(value + 0.0)
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    return [exactly(item) for item in value] if isinstance(value, list) else value

"""A plug-in by name and the fields of its parameters, one for each keyword of its constructor. Knows no project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from annotator import registry
from annotator.errors import AnnotatorError
from annotator.registry import Parameter
from annotator.ui.fields import held, starts_from
from annotator.ui.words import plain

Json = Any  # a parameter's value


def choice(prefix: str, kind: str, name: str, basis: object) -> str:
    """A select box of this kind's names with a line of help on each -> the name it holds.

    That is `name` until somebody chooses otherwise, and again once `basis` has changed. A name that is not listed stays
    selectable.
    """
    names = registry.offered(kind)
    help_lines = "\n".join(f"- **{plain(one)}**: {plain(registry.summary(kind, one))}" for one in names)
    names = names if name in names else [*names, name]
    key = starts_from(_key(prefix, kind), name, basis)
    index = names.index(held(key)) if held(key) in names else 0
    return str(st.selectbox(kind.capitalize(), names, index, key=key, help=help_lines))


def fields(prefix: str, kind: str, name: str, given: Mapping[str, Json], basis: object = None) -> None:
    """A field for each parameter, and what is wrong with what stands there; nothing for a plug-in without any."""
    try:
        described = registry.describe(kind, name)
    except AnnotatorError as error:
        st.error(plain(str(error)))
        return
    for parameter in described:
        key, value = _key(prefix, kind, name, parameter.name), given.get(parameter.name, parameter.default)
        _field(parameter, key, value, (basis, name))
    try:
        registry.create(kind, name, values(prefix, kind, name))
    except AnnotatorError as error:
        st.error(plain(str(error)))


def values(prefix: str, kind: str, name: str) -> dict[str, Json]:
    """What the fields hold; parameters with their defaults are left out."""
    found = {}
    for parameter in registry.describe(kind, name):
        value = st.session_state.get(_key(prefix, kind, name, parameter.name))
        if value is not None and value != _shown(parameter.default) and value != parameter.default:
            found[parameter.name] = value
    return found


def is_same(kind: str, name: str, one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether two sets of parameters make the same plug-in."""
    return registry.complete(kind, name, dict(one)) == registry.complete(kind, name, dict(other))


def _field(parameter: Parameter, key: str, value: Json, basis: object) -> None:
    label = plain(parameter.name.replace("_", " "))
    if parameter.type is bool:
        starts_from(key, bool(value), basis)
        st.checkbox(label, held(key), key=key)
    elif parameter.type is int and isinstance(value, int):
        starts_from(key, value, basis)
        st.number_input(label, value=held(key), step=1, key=key)
    else:
        starts_from(key, _shown(value), basis)
        st.text_input(label, held(key), key=key)


def _shown(value: Json) -> str:
    return "" if value is None else str(value)


def _key(*names: str) -> str:
    return "-".join(names)

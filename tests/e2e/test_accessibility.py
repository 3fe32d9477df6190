"""The rules of axe-core on every view, light and dark: nothing grave in our own markup, Streamlit's own by name."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

GRAVE = ("serious", "critical")
STREAMLITS_OWN = {"color-contrast", "svg-img-alt"}
"""Rules that Streamlit's widgets break by themselves (a chosen segment on dark ground, a chart); look at a new one."""


def broken(person: Person) -> tuple[list[str], set[str]]:
    """Grave violations in the surface, as sentences, and the rules broken elsewhere on the page."""
    ours, others = [], set()
    for rule in Axe().run(person.page).response["violations"]:
        if rule["impact"] not in GRAVE:
            continue
        for node in rule["nodes"]:
            if is_ours(node):
                ours.append(f"{rule['id']}: {node['html'][:120]} {node['failureSummary'][:200]}")
            else:
                others.add(rule["id"])
    return ours, others


def is_ours(node: dict[str, Any]) -> bool:  # Any: JSON
    """Inside the surface's shadow root, whose path axe gives as a list."""
    return any(isinstance(part, list) for part in node["target"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_breaks_a_grave_rule(scheme: str, shared: Server, new_person: NewPerson) -> None:
    """The surface while labeling, with its dialogs open, and every other view."""
    person = new_person(shared, color_scheme=scheme)
    person.open("start")
    person.start_demo("Handwritten digits")
    found = [broken(person)]
    person.key(*"012345678901")
    person.is_saved()
    found.append(broken(person))
    for key in ("?", "z"):
        person.key(key)
        found.append(broken(person))
        person.key("Escape")
    for view in ("Progress", "Export", "Start"):
        person.go_to(view)
        found.append(broken(person))
    assert [sentence for ours, _ in found for sentence in ours] == []
    assert {rule for _, others in found for rule in others} <= STREAMLITS_OWN

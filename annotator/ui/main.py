"""The script that Streamlit runs for every interaction: find the project, draw the chosen view.

The first run draws the page's frame at once; the views are imported by the time it is there, or waited for under a
spinner.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from annotator.errors import AnnotatorError
from annotator.paths import assets
from annotator.ui.words import plain

if TYPE_CHECKING:
    from annotator.project import Project

N_NAMED = 20  # projects named where the address names none (a string here would be drawn: this is Streamlit's script)
LOOPBACK = ("127.0.0.1", "localhost", "::1")

st.set_page_config(page_title="annotator", page_icon=str(assets() / "icon.png"), layout="wide")


def main() -> None:
    """One run."""
    if st.get_option("server.address") not in LOOPBACK:
        st.error("There is no sign-in yet, so the app answers on this machine alone: start it with `annotator run`.")
        st.stop()
    views = [
        st.Page(_label, title="Label", icon=":material/edit:", url_path="label", default=True),
        st.Page(_progress, title="Progress", icon=":material/monitoring:", url_path="progress"),
        st.Page(_export, title="Export", icon=":material/download:", url_path="export"),
        st.Page(_start, title="Start", icon=":material/home:", url_path="start"),
    ]
    st.html(Path(__file__).with_name("style.css"))
    st.session_state["views"] = {view.title: view for view in views}
    chosen = st.navigation(views, position="top")
    with _waiting("annotator.ui.views" in sys.modules):
        import_module("annotator.ui.views")
    chosen.run()


@contextmanager
def _waiting(is_there: bool) -> Iterator[None]:
    """A spinner unless what is waited for is there; its place is kept, so what comes after it stays where it is."""
    with st.empty():
        if is_there:
            yield
            return
        with st.spinner("Opening …"):
            yield


def _start() -> None:
    from annotator.ui.views import start  # here and below: there since `main` has waited for it

    _notices()
    start.render()


def _label() -> None:
    from annotator.ui.views import label

    project = _project()
    if project is not None and not project.store.damage:
        label.render(project)


def _progress() -> None:
    from annotator.ui.views import progress

    project = _project()
    if project is not None:
        progress.render(project)


def _export() -> None:
    from annotator.ui.views import export

    project = _project()
    if project is not None:
        export.render(project)


def _project() -> Project | None:
    """The project of this tab; where there is none, a word on what to do."""
    from annotator.ui import tab

    try:
        with _waiting(tab.has_open_project()):
            project = tab.current_project()
    except AnnotatorError as error:
        st.error(plain(str(error)))
        st.page_link(st.session_state["views"]["Start"], label="Choose another project")
        return None
    _notices(() if project is None else project.store.damage)
    if project is None:
        _no_project()
    return project


def _no_project() -> None:
    """That the address names none that there is, or names none at all; and those that there are."""
    from annotator.ui import tab

    wanted, names = tab.wanted_project(), tab.project_names()
    if wanted is None:
        st.info("No project is open.")
    else:
        there_are = "There are:" if names else "There is none yet."
        st.info(f"There is no project named {plain(wanted[: tab.LONGEST_NAME])}. {there_are}")
    with st.container(horizontal=True, key="projects"):
        for name in names[:N_NAMED]:
            st.button(plain(name), key=f"go-to-{name}", on_click=tab.show_project, args=(name,))
    if len(names) > N_NAMED:
        st.caption(f"and {len(names) - N_NAMED:,} more.")
    st.page_link(st.session_state["views"]["Start"], label="Choose or create one")


def _notices(damage: Sequence[str] = ()) -> None:
    """In a place of their own: what comes after them stays where it is. A damaged project is said on every page."""
    from annotator.ui import panels, tab

    with st.container():
        panels.damage(damage)
        for kind, message in tab.take_notices():
            if kind == "error":
                st.error(plain(message), icon=":material/error:")
            else:
                st.toast(plain(message), icon=":material/check:")


if __name__ == "__main__":
    main()

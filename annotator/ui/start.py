"""The start view: the ready-made projects, your own folder, and what you worked on before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from annotator import registry
from annotator.errors import AnnotatorError
from annotator.jobs import Job
from annotator.project import Config, Preset, Summary, list_projects, presets
from annotator.sources.folder import class_folders
from annotator.ui import parts, state
from annotator.ui.words import count, plain, visible

MOST_FOLDERS = 200
IGNORE, NAMES, KNOWN = "ignore them", "use their names as classes", "also take their images as labeled"


def render() -> None:
    """Cards, the folder form, and the list."""
    running = state.preparing()
    if running is not None:
        _preparing(*running)
        return
    st.markdown("### Teach a model with as few labels as possible")
    st.caption("Choose images; label what the model is least sure about; watch it learn; export the labels.")
    found = list_projects(state.projects_folder())
    columns = st.columns(2, gap="medium")
    for column, preset in zip(columns, presets().values(), strict=False):
        with column:
            _preset_card(preset, found)
    _own_folder()
    _recent(found)


def _preset_card(preset: Preset, found: Iterable[Summary]) -> None:
    with st.container(border=True, key=f"preset-{preset.order}"):
        st.markdown(f"**{plain(preset.title)}**")
        st.caption(plain(preset.description))
        mine = [summary for summary in found if summary.name == preset.config.name and not summary.error]
        with st.container(horizontal=True):
            if mine:
                label = f"Continue ({count(mine[0].n_labels, 'label')})"
                st.button(
                    label, key=f"continue-{preset.order}", type="primary", on_click=_open, args=(mine[0].folder.name,)
                )
            st.button(
                "Start over" if mine else "Start",
                key=f"start-{preset.order}",
                type="secondary" if mine else "primary",
                on_click=state.guarded(_create),
                args=(preset.config,),
            )
    _follow()


def _own_folder() -> None:
    with st.container(border=True, key="own-folder"):
        st.markdown("**Your own folder**")
        st.caption(
            f"Photos of any size, sub-folders included. Folders must lie under {plain(str(state.root_folder()))}."
        )
        path = st.selectbox(
            "Folder",
            _folders(),
            index=None,
            accept_new_options=True,
            key="folder-path",
            placeholder="choose, or type a path",
            format_func=visible,
            help="Only read, never changed. The path may be relative to the folder named above.",
        )
        if path:
            _folder_form(path)


def _folder_form(path: str) -> None:
    full = str(state.root_folder() / Path(path).expanduser())
    try:
        sub_folders = class_folders(full, str(state.root_folder()))
    except AnnotatorError as error:
        st.error(plain(str(error)))
        return
    use = IGNORE
    if sub_folders:
        use = st.radio(
            f"There are {count(len(sub_folders), 'sub-folder')} with images",
            [IGNORE, NAMES, KNOWN],
            key="folder-use",
            horizontal=True,
            help="Known labels are taken over as they are; an oracle can also play with them.",
        )
    names = [] if use == IGNORE else list(sub_folders)
    classes = st.text_area(
        "Classes, one a line",
        "\n".join(names),
        key=f"folder-classes-{use}",
        height=120,
        help="Two at least make a choice. More can be added while you label.",
    )
    with st.expander("Model and strategy"):
        choices = {kind: _choice(kind) for kind in ("encoder", "model", "strategy")}
        batch_size = int(
            st.number_input(
                "Images a batch",
                1,
                100,
                12,
                key="folder-batch-size",
                help="More: fewer pauses, but the model learns less often.",
            )
        )
    st.button(
        "Create the project",
        type="primary",
        key="create-folder",
        icon=":material/add:",
        on_click=state.guarded(_create_from_folder),
        args=(full, use, classes, choices, batch_size),
    )
    _follow()


def _choice(kind: str) -> str:
    names = registry.names(kind)
    default = getattr(Config(), kind)
    chosen = st.selectbox(kind.capitalize(), names, index=names.index(default), key=f"folder-{kind}")
    st.caption(plain(registry.summary(kind, chosen)))
    return chosen


def _recent(found: list[Summary]) -> None:
    st.markdown("#### Your projects")
    if not found:
        st.caption("None yet. They appear here with how far you are.")
    for summary in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            if summary.error:
                st.markdown(f"**{plain(summary.name)}** · :red[{plain(summary.error)}]")
                continue
            share = summary.n_labels / summary.n_images if summary.n_images else 0.0
            words = f"**{plain(summary.name)}** · {summary.n_labels:,} of {summary.n_images:,} labeled"
            st.progress(share, text=words)
            st.button("Open", key=f"open-{summary.folder.name}", on_click=_open, args=(summary.folder.name,))
    _follow()


# ---- creating


def _create(config: Config) -> None:
    if state.is_quick(config):
        _open(state.create_quickly(config))
    else:
        state.start_preparing(config)


def _create_from_folder(path: str, use: str, classes: str, choices: dict[str, str], batch_size: int) -> None:
    names = tuple(name for name in (line.strip() for line in classes.splitlines()) if name)
    parameters = {"path": path, "classes_from_folders": use != IGNORE, "root": str(state.root_folder())}
    config = Config(
        name=Path(path).name or "folder",
        source="folder",
        source_parameters=parameters,
        classes=names,
        batch_size=batch_size,
        initial="known" if use == KNOWN else "none",
        encoder=choices["encoder"],
        model=choices["model"],
        strategy=choices["strategy"],
    )
    _create(config)


def _preparing(job: Job, config: Config) -> None:
    st.markdown(f"### Preparing {plain(config.name)}")
    st.caption("Reading the images once; the next start is immediate. Nothing in your folder is changed.")

    def done() -> None:
        _open(state.create_quickly(config))
        state.forget_preparing()

    parts.running_job(job, done, state.forget_preparing)
    _follow()


def _open(name: str) -> None:
    st.session_state["playing"] = False
    st.session_state["project"] = name
    st.session_state["go_label"] = True


def _follow() -> None:
    """Go to the labeling view where a callback has just opened a project; only a script may switch pages."""
    if st.session_state.pop("go_label", False):
        st.switch_page(st.session_state["pages"]["Label"])


def _folders() -> list[str]:
    """Folders two levels below the root, to choose from; any other can be typed."""
    root, found = state.root_folder(), []
    for folder in _visible_folders(root):
        found.append(folder.name)
        found += [f"{folder.name}/{inner.name}" for inner in _visible_folders(folder)]
        if len(found) >= MOST_FOLDERS:
            break
    return found[:MOST_FOLDERS]


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []

"""The form for a project of your own images: a folder or file under the root, or an upload; then classes and model.

Which source reads a path is told from what lies there, never from what a browser says about an upload.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st

from annotator import registry
from annotator.class_names import checked_class_names, distinct_names
from annotator.config import QUICK_ENCODER, RECOMMENDED, Config
from annotator.errors import AnnotatorError, ConfigError
from annotator.paths import expanded
from annotator.sources.folder import class_folders
from annotator.sources.idx import has_family
from annotator.types import ImageSource, layers
from annotator.ui import tab
from annotator.ui.fields import starts_from
from annotator.ui.shared import root_folder, workspace
from annotator.ui.views import plugin_fields
from annotator.ui.words import count, plain, visible

MOST_FOLDERS = 200
HOW_IT_STARTS = (
    f"Labeling starts at once on quick features ({QUICK_ENCODER}). Those that fit your images "
    f"({RECOMMENDED['encoder']} looks at them and chooses) are computed behind and take over between two batches."
)
IGNORE, NAMES, KNOWN = "ignore them", "use their names as classes", "also take their images as labeled"
CHOICES = {"scale": ("auto", "unit", "byte", "symmetric", "max"), "channels": ("auto", "first", "last")}
HELP = {
    "scale": "What white is in an array of floats: 1, 255, 1 with black at -1, or its largest value.",
    "channels": "Where the colours of an array stand: before or after height and width.",
}


@dataclass(frozen=True)
class Chosen:
    """A path, the source that reads it, and the classes that it knows of."""

    path: Path
    root: Path
    source: str
    picked: str | None = None
    """See `_picked`."""
    class_names: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    held_out: tuple[str, ...] = ()
    """Folders such as "test", whose images are held out where its classes are used."""

    @property
    def by_folder(self) -> bool:
        """Whether its classes are sub-folders, which count only on request."""
        return self.source in ("folder", "zip")


def choose_images() -> Chosen | None:
    """Ask where the images are. None until something usable was chosen."""
    root = root_folder()
    st.caption(
        "Photos in a folder or a zip, arrays in an .npz, or the MNIST family's files. Only read, never changed. "
        f"Paths must lie under {plain(str(root))}."
    )
    path = _path_field()
    upload = st.file_uploader("Or upload a zip or an .npz", type=["zip", "npz"], key=tab.UPLOADER)
    try:
        if path:
            return replace(_inspected(root / expanded(path), root), picked=_picked())
        kept = tab.uploaded(upload)
        if kept is not None:
            return replace(_inspected(kept.path, workspace().uploads.folder), picked=_picked())
    except AnnotatorError as error:
        st.error(plain(str(error)))
    return None


def _path_field() -> str | None:
    return st.selectbox(
        "Folder",
        _folders(),
        index=None,
        accept_new_options=True,
        key="folder-path",
        placeholder="choose, or type a path",
        format_func=visible,
        help="The path may be relative to the folder named above.",
    )


def config_form(chosen: Chosen, create: Callable[[Config], None]) -> None:
    """Classes, model and strategy; the button calls `create` with the config."""
    use = _use_of_classes(chosen)
    names = () if use == IGNORE else chosen.class_names
    st.text_area(
        "Classes, one a line",
        key=starts_from("folder-classes", "\n".join(names), (str(chosen.path), use, names)),
        height=120,
        help="Two at least make a choice. More can be added while you label.",
    )
    st.caption(HOW_IT_STARTS)
    with st.expander("Model and strategy"):
        for kind in ("encoder", "model", "strategy"):
            _plug_in(kind)
        st.number_input(
            "Images a batch", 1, 100, 12, key="folder-batch-size", help="More: fewer pauses, but learning less often."
        )
    st.button(
        "Create the project",
        type="primary",
        key="create-folder",
        icon=":material/add:",
        on_click=tab.guarded(_create),
        args=(create, chosen),
    )


def _use_of_classes(chosen: Chosen) -> str:
    if not chosen.class_names:
        return IGNORE
    n_classes = len(chosen.class_names)
    if chosen.held_out:
        st.caption(
            f"Seen as layers: what is in {plain(', '.join(chosen.held_out))} is held out to measure accuracy, never "
            "asked about and never trained on; the classes are the folders inside. Ignore them to label all images."
        )
    found = count(n_classes, "sub-folder") if chosen.by_folder else count(n_classes, "class", "classes")
    return st.radio(
        f"There {'is' if n_classes == 1 else 'are'} {found} with images",
        [IGNORE, NAMES, KNOWN] if chosen.by_folder else [NAMES, KNOWN],
        key="folder-use",
        horizontal=True,
        help="With their names alone, accuracy is measured on the labels that they give, and an oracle can play. Known "
        "labels are taken over as they are; accuracy is then measured on a share of each batch, drawn at random.",
    )


def _plug_in(kind: str) -> None:
    names = registry.offered(kind)
    index = names.index(RECOMMENDED[kind])
    chosen = st.selectbox(kind.capitalize(), names, index=index, key=f"folder-{kind}")
    st.caption(plain(registry.summary(kind, chosen)))
    if kind == "encoder":
        plugin_fields.fields("folder", kind, chosen, {})


def _create(create: Callable[[Config], None], chosen: Chosen) -> None:
    """By what the fields hold now: the run that drew the button may have seen less than was typed before the click."""
    if chosen.picked != _picked():
        raise ConfigError("Other images were chosen meanwhile. Look at their classes, then create the project.")
    create(_config(chosen))


def _config(chosen: Chosen) -> Config:
    fields = st.session_state
    use = str(fields["folder-use"]) if chosen.class_names else IGNORE
    typed = [line for line in str(fields["folder-classes"]).splitlines() if line.strip()]
    names = tuple(checked_class_names(typed, own=chosen.class_names))
    parameters = {"path": str(chosen.path), "root": str(chosen.root), **chosen.parameters}
    if chosen.by_folder:
        parameters["classes_from_folders"] = use != IGNORE
    return Config(
        name=chosen.path.stem or "images",
        source=chosen.source,
        source_parameters=parameters,
        classes=names,
        batch_size=int(fields["folder-batch-size"]),
        initial="known" if use == KNOWN else "none",
        encoder=str(fields["folder-encoder"]),
        encoder_parameters=plugin_fields.values("folder", "encoder", str(fields["folder-encoder"])),
        model=str(fields["folder-model"]),
        strategy=str(fields["folder-strategy"]),
    )


def _picked() -> str | None:
    """What tells the images that are chosen at this moment from others: the typed path, or the id of the upload."""
    upload = st.session_state.get(tab.UPLOADER)
    return st.session_state.get("folder-path") or getattr(upload, "file_id", None)


# ---- what lies there


def _inspected(path: Path, root: Path) -> Chosen:
    source = _source_of(path)
    if source == "folder":
        found = class_folders(str(path), str(root))
        return Chosen(path, root, source, class_names=found.names, held_out=found.layers)
    options = _array_options(path) if source == "arrays" else {}
    names, held_out = _class_names(source, str(path), str(root), _stamp(path), **options)
    return Chosen(path, root, source, class_names=distinct_names(names), parameters=options, held_out=held_out)


def _source_of(path: Path) -> str:
    """Which source reads what lies there: told by its kind and its name; what it holds is checked by that source."""
    if os.path.isdir(path):  # unlike Path's own, it raises nothing: the source will say what is wrong with the path
        return "idx" if has_family(path) else "folder"
    if os.path.isfile(path):
        return {".npz": "arrays", ".zip": "zip"}.get(path.suffix.lower(), "idx")
    return "folder"


@st.cache_data(max_entries=8, show_spinner="Reading the file…")
def _class_names(
    source: str, path: str, root: str, stamp: str, **options: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes a file knows of, and the folders that are held out; `stamp` makes a changed file another one."""
    by_folder = {"classes_from_folders": True} if source == "zip" else {}
    opened: ImageSource = registry.create("source", source, {"path": path, "root": root, **options, **by_folder})
    return tuple(opened.class_names), layers(opened)


def _array_options(path: Path) -> dict[str, str]:
    """Chosen for this file alone: the next one is read by what it holds again."""
    with st.expander("How to read the array"):
        return {
            name: st.selectbox(
                name.capitalize(), words, key=starts_from(f"array-{name}", words[0], str(path)), help=HELP[name]
            )
            for name, words in CHOICES.items()
        }


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _folders() -> list[str]:
    """Folders two levels below the root, to choose from; any other can be typed."""
    root, found = root_folder(), []
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

"""Your own images: a folder or file under the root, or an upload; then its classes, its model, and go.

Which source reads a path is told from what lies there, never from what a browser says about an upload.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from annotator import registry
from annotator.class_names import checked_class_names, distinct_names
from annotator.errors import AnnotatorError, ConfigError
from annotator.paths import safe_join, slug
from annotator.project import Config
from annotator.sources.folder import class_folders
from annotator.sources.idx import has_family
from annotator.types import ImageSource
from annotator.ui import state
from annotator.ui.words import count, plain, visible

MOST_FOLDERS = 200
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
    class_names: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    held_out: tuple[str, ...] = ()
    """Folders such as "test", whose images are held out where its classes are used."""

    @property
    def by_folder(self) -> bool:
        """Whether its classes are sub-folders, which count only on request."""
        return self.source in ("folder", "zip")


def choose() -> Chosen | None:
    """Ask where the images are. None until something usable was chosen."""
    root = state.root_folder()
    st.caption(
        "Photos in a folder or a zip, arrays in an .npz, or the MNIST family's files. Only read, never changed. "
        f"Paths must lie under {plain(str(root))}."
    )
    path = st.selectbox(
        "Folder",
        _folders(),
        index=None,
        accept_new_options=True,
        key="folder-path",
        placeholder="choose, or type a path",
        format_func=visible,
        help="The path may be relative to the folder named above.",
    )
    upload = st.file_uploader("Or upload a zip or an .npz", type=["zip", "npz"], key="upload")
    try:
        if path:
            return _looked_at(root / Path(path).expanduser(), root)
        if upload is not None:
            return _looked_at(_stored(upload.name, upload.getvalue()), _uploads())
    except AnnotatorError as error:
        st.error(plain(str(error)))
    return None


def form(chosen: Chosen, create: Callable[[Config], None]) -> None:
    """Classes, model and strategy; the button calls `create` with the config."""
    use = _use_of_classes(chosen)
    names = () if use == IGNORE else chosen.class_names
    classes = st.text_area(
        "Classes, one a line",
        "\n".join(names),
        key=f"folder-classes-{chosen.path.name}-{use}",
        height=120,
        help="Two at least make a choice. More can be added while you label.",
    )
    with st.expander("Model and strategy"):
        choices = {kind: _plug_in(kind) for kind in ("encoder", "model", "strategy")}
        batch_size = st.number_input(
            "Images a batch", 1, 100, 12, key="folder-batch-size", help="More: fewer pauses, but learning less often."
        )
    st.button(
        "Create the project",
        type="primary",
        key="create-folder",
        icon=":material/add:",
        on_click=state.guarded(_create),
        args=(create, chosen, use, classes, choices, int(batch_size)),
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


def _plug_in(kind: str) -> str:
    names = registry.names(kind)
    default = getattr(Config(), kind)
    chosen = st.selectbox(kind.capitalize(), names, index=names.index(default), key=f"folder-{kind}")
    st.caption(plain(registry.summary(kind, chosen)))
    return chosen


def _create(
    create: Callable[[Config], None], chosen: Chosen, use: str, classes: str, choices: dict[str, str], batch_size: int
) -> None:
    typed = [line for line in classes.splitlines() if line.strip()]
    names = tuple(checked_class_names(typed, own=chosen.class_names))
    parameters = {"path": str(chosen.path), "root": str(chosen.root), **chosen.parameters}
    if chosen.by_folder:
        parameters["classes_from_folders"] = use != IGNORE
    create(
        Config(
            name=chosen.path.stem or "images",
            source=chosen.source,
            source_parameters=parameters,
            classes=names,
            batch_size=batch_size,
            initial="known" if use == KNOWN else "none",
            encoder=choices["encoder"],
            model=choices["model"],
            strategy=choices["strategy"],
        )
    )


# ---- what lies there


def _looked_at(path: Path, root: Path) -> Chosen:
    source = _source_of(path)
    if source == "folder":
        found = class_folders(str(path), str(root))
        return Chosen(path, root, source, found.names, held_out=found.layers)
    options = _array_options() if source == "arrays" else {}
    names, layers = _class_names(source, str(path), str(root), _stamp(path), **options)
    return Chosen(path, root, source, distinct_names(names), options, layers)


def _source_of(path: Path) -> str:
    """Which source reads what lies there: told by its kind and its name; what it holds is checked by that source."""
    if path.is_dir():
        return "idx" if has_family(path) else "folder"
    if path.is_file():
        return {".npz": "arrays", ".zip": "zip"}.get(path.suffix.lower(), "idx")
    return "folder"


@st.cache_data(max_entries=8, show_spinner="Reading the file…")
def _class_names(
    source: str, path: str, root: str, stamp: str, **options: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes a file knows of, and the folders that are held out; `stamp` makes a changed file another one."""
    by_folder = {"classes_from_folders": True} if source == "zip" else {}
    opened: ImageSource = registry.create("source", source, {"path": path, "root": root, **options, **by_folder})
    return tuple(opened.class_names), tuple(getattr(opened, "layers", ()))


def _array_options() -> dict[str, str]:
    with st.expander("How to read the array"):
        return {
            name: st.selectbox(name.capitalize(), words, key=f"array-{name}", help=HELP[name])
            for name, words in CHOICES.items()
        }


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _uploads() -> Path:
    return state.projects_folder() / ".uploads"


def _stored(name: str, content: bytes) -> Path:
    """An upload on the server's disk, under its hash and a safe name; complete or not there at all."""
    suffix = Path(name).suffix.lower()
    if suffix not in (".zip", ".npz"):
        raise ConfigError(f"{name} is neither a .zip nor an .npz. Pack the images into a zip, and upload that.")
    folder = safe_join(_uploads(), hashlib.sha256(content).hexdigest()[:24])
    target = safe_join(folder, slug(Path(name).stem, "upload") + suffix)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    return target


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

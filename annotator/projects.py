"""The projects in a folder: listed, found by what a person calls them, and where a new one can go. Opens no images."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.paths import slug
from annotator.store import Store, answers, images

STORE_NAME = "project.sqlite"
"""A folder that has it is a project."""


@dataclass(frozen=True)
class Summary:
    """A project as the start view lists it."""

    name: str
    folder: Path
    n_images: int
    n_labels: int
    created_at: str
    error: str = ""
    source: str = ""


def list_projects(projects: Path) -> list[Summary]:
    """Every project under `projects`, the newest first; one that cannot be opened says why."""
    folders = [projects / name for name in folder_names(projects)]
    return sorted((summarize(folder) for folder in folders), key=lambda found: found.created_at, reverse=True)


def folder_names(projects: Path) -> list[str]:
    """The folders under `projects` that hold a project, as `list_projects` lists them."""
    if not projects.is_dir():
        return []
    found = [path.parent.name for path in projects.glob(f"*/{STORE_NAME}")]
    return sorted(name for name in found if not name.startswith("."))


def project_folder(projects: Path, name: str) -> Path:
    """The folder of this name in the list; a name that came from outside becomes a path nowhere else.

    Raises ConfigError (PROJECT_UNKNOWN) for a name that is not in the list, a path for example.
    """
    known = folder_names(projects)
    if name not in known:
        there_are = ", ".join(known) or "none"
        raise ConfigError(f"No project {name[:80]!r} under {projects}. There are: {there_are}.", "PROJECT_UNKNOWN")
    return projects / name


def find_project(projects: Path, text: str) -> Path:
    """The project that a person means: the path of a folder, a folder's name in the list, else a project's own name.

    Raises ConfigError for a text that fits none (PROJECT_UNKNOWN), or several (PROJECT_UNCLEAR).
    """
    exact = [Path(text)] if os.path.exists(os.path.join(text, STORE_NAME)) else []
    if text in folder_names(projects):
        exact += [folder for folder in [projects / text] if not exact or not folder.samefile(exact[0])]
    found = exact or [summary.folder for summary in list_projects(projects) if summary.name == text]
    if len(found) > 1:
        paths = ", ".join(str(folder.absolute()) for folder in sorted(found))
        raise ConfigError(f"{text!r} fits {len(found)} projects: {paths}. Give the path of one.", "PROJECT_UNCLEAR")
    return found[0] if found else project_folder(projects, text)


def free_folder(projects: Path, name: str) -> Path:
    """A folder under `projects` for a project of this name that is not taken yet."""
    base = slug(name, "project")
    tries = [base, *(f"{base}-{number}" for number in range(2, 10_000))]
    return next(projects / candidate for candidate in tries if not (projects / candidate).exists())


def newest_config(store: Store) -> tuple[int, dict[str, Any]]:  # Any: JSON
    """The version and the values of the configuration in use. Raises StoreError where there is none."""
    configs = store.snapshot().configs
    if not configs:
        raise StoreError(
            f"{store.path} has no configuration; its creation was cut off. Create it anew.", "STORE_INCOMPLETE"
        )
    version = max(configs)
    return version, configs[version]


def summarize(folder: Path) -> Summary:
    try:
        with closing(Store(folder / STORE_NAME)) as store:
            source = str(newest_config(store)[1].get("source", ""))
            n_images, n_labels = store.read(images.count), store.read(answers.n_labels)
            return Summary(store.name, folder, n_images, n_labels, store.created_at, source=source)
    except AnnotatorError as error:
        return Summary(folder.name, folder, 0, 0, "", str(error))

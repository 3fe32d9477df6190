"""The open projects of one process, their jobs, encoder swaps and look-ahead. Knows no browser and no tab.

    Workspace(folder)
      ├─ open(name), create(config)   one Project object a folder, for every thread
      ├─ swaps                        another encoder: computed by a job, then swapped in by a thread of this process
      ├─ improvements                 better features, tried when they are due and swapped in likewise
      ├─ payoffs                       whether a project's strategy pays, measured beside the labeling
      ├─ look_ahead(project)          the next batch, chosen while the open one is labeled
      ├─ jobs                         imports and exports at work, and their folders
      └─ uploads                      files from the browser, kept while they are needed

One stands for a projects folder; see `workspace_of`. Any number of threads may use it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

from annotator import due, registry, reports
from annotator.config import QUICK_ENCODER, RECOMMENDED, RECOMMENDED_FROM, Config, presets
from annotator.dataset import open_source
from annotator.errors import ModelError
from annotator.pointer import CACHE
from annotator.project import Project, check_plugins, is_slow
from annotator.projects import Summary, folder_names, free_folder, project_folder
from annotator.reports import Moment
from annotator.session import Session
from annotator.types import reads_files
from annotator.workspace.improvements import Improvements
from annotator.workspace.jobs import Jobs
from annotator.workspace.listing import Listing
from annotator.workspace.look_ahead import LookAhead
from annotator.workspace.payoffs import Payoffs
from annotator.workspace.swaps import PREPARE, EncoderSwaps
from annotator.workspace.uploads import Uploads

QUICK_BYTES = 32 << 20
"""Sources that are an array of at most this size are prepared at once; anything else is a job."""
PAINTED_SECONDS = 2.0
"""How long after opening a project work in the background begins: its imports would hold up the first page."""
_MAKING = threading.Lock()


class Workspace:
    """What one process holds open under a projects folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = Jobs(folder)
        self.uploads = Uploads(folder)
        self.swaps = EncoderSwaps(self.jobs, self._between_batches, lambda project: self.improvements.look(project))
        self.improvements = Improvements(self.swaps)
        self.payoffs = Payoffs()
        self._listing = Listing(folder)
        self._projects: dict[str, Project] = {}
        self._look_aheads: dict[Path, LookAhead] = {}
        self._lock = threading.RLock()
        threading.Thread(target=self._remove_leftovers, name="leftovers", daemon=True).start()

    # ---- which projects

    def summaries(self) -> list[Summary]:
        """Every project under the folder, the newest first; one that cannot be opened says why."""
        return self._listing.summaries()

    def default_project(self) -> str | None:
        """The newest project, else the preset that opens first, which is created; None where there is neither."""
        newest = self._newest()
        if newest is not None:
            return newest
        first = next((preset for preset in presets().values() if preset.opens_first), None)
        if first is None:
            return None
        with self._lock:  # another tab may have made it meanwhile
            return self._newest() or self.create(first.config)

    def has(self, name: str) -> bool:
        """Whether the list has a project in a folder of that name."""
        return name in folder_names(self.folder)

    def open(self, name: str) -> Project:
        """The project in the folder of that name, the same object for every thread.

        Raises ConfigError for a name that is not in the list, StoreError or SourceError where it cannot be opened. One
        that is open is had without waiting for another.
        """
        found = self._projects.get(name)
        return found if found is not None else self._open(name)

    def opened(self) -> list[str]:
        """The names under which projects are open."""
        return list(self._projects)

    def close(self) -> None:
        """Close every project."""
        with self._lock:
            for project in self._projects.values():
                project.close()
            self._projects.clear()

    # ---- creating

    def is_quick(self, config: Config) -> bool:
        """Whether the source is so small that nobody would notice a job."""
        if reads_files(registry.load("source", config.source)):
            return False  # ... a large folder is not even listed here
        array = open_source(config.recipe).array
        return array is not None and array.nbytes <= QUICK_BYTES

    def prepare(self, config: Config) -> str:
        """Decode, encode and connect in a child process; returns the key of its job. Raises ConfigError."""
        check_plugins(config)
        recipe = asdict(quick(config).recipe)
        cache = str(self.folder / CACHE)
        return self.jobs.start(PREPARE, {"recipe": recipe, "cache": cache, "own_classes": not config.classes})

    def create(self, config: Config) -> str:
        """Create a project here and now; returns its name. A slow encoder is computed while labeling has begun."""
        check_plugins(config)
        with self._lock:
            folder = free_folder(self.folder, config.name)
            Project.create(folder, quick(config)).close()
        if is_slow(config.encoder):
            self._swap_or_say(self.open(folder.name), config)
        return folder.name

    # ---- what runs beside a project

    def look_ahead(self, project: Project) -> LookAhead:
        """The one of this project, for every thread."""
        known = self._look_aheads.get(project.folder)  # a copy has the same id
        if known is not None:
            return known
        made = LookAhead(partial(_renewed, project), partial(self._after_a_batch, project))
        return self._look_aheads.setdefault(project.folder, made)

    def is_due(self, project: Project, moment: Moment) -> bool:
        """Whether this annotator's next batch can be chosen now; also of images that others let go of."""
        return reports.is_due(moment) or due.can_take_over(project.store, moment.snapshot, moment.me)

    def _after_a_batch(self, project: Project) -> None:
        """What may be due with more labels."""
        self.improvements.look(project)
        self.payoffs.look(project)

    def _newest(self) -> str | None:
        """The newest project that can be opened."""
        return next((summary.folder.name for summary in self.summaries() if not summary.error), None)

    def _between_batches(self, project: Project) -> AbstractContextManager[None]:
        return self.look_ahead(project).paused()

    def _swap_or_say(self, project: Project, config: Config) -> None:
        """Compute the slow encoder that was asked for; where the pool is too small, the project says so from now on."""
        n_images, encoder = len(project.prepared.dataset), config.encoder
        if encoder == RECOMMENDED["encoder"] and n_images < RECOMMENDED_FROM:
            project.set_notice(
                f"{n_images:,} images are soon labeled, and too few to learn from without labels: the quick features "
                f"of {project.config.encoder} are used. Settings has others, which pay from about {RECOMMENDED_FROM} "
                "images on."
            )
            return
        try:
            self.swaps.start(project, {"encoder": encoder, "encoder_parameters": config.encoder_parameters})
        except ModelError as error:
            project.set_notice(str(error))

    def _open(self, name: str) -> Project:
        with self._lock:
            if name not in self._projects:
                folder = project_folder(self.folder, name)
                self._projects[name] = self._open_under_another_name(folder) or self._open_first(folder)
            return self._projects[name]

    def _open_under_another_name(self, folder: Path) -> Project | None:
        """The open project that lies in the same folder: a link to it in the list is no second project."""
        return next((project for project in self._projects.values() if _is_same(project.folder, folder)), None)

    def _open_first(self, folder: Path) -> Project:
        project = Project(folder)
        after_first_page(project.learner.warm_up)
        after_first_page(partial(self._resume, project))
        _freeze_what_stays()
        return project

    def _resume(self, project: Project) -> None:
        """Go on with what a process that died was computing, and with what is due by now."""
        self.swaps.resume(project)
        self.improvements.resume(project)
        self._after_a_batch(project)

    def _remove_leftovers(self) -> None:
        self.jobs.remove_leftovers()
        self.uploads.remove_unused()


def workspace_of(folder: Path) -> Workspace:
    """The workspace of this process for that projects folder."""
    with _MAKING:
        return _made(folder)


_made = cache(Workspace)


def quick(config: Config) -> Config:
    """The config to begin with: features that are there at once in place of those that take minutes."""
    return replace(config, encoder=QUICK_ENCODER, encoder_parameters={}) if is_slow(config.encoder) else config


def _renewed(project: Project, session: Session) -> Session:
    return project.session(session.annotator.name)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is gone
        return False


def after_first_page(work: Callable[[], None]) -> None:
    """Do this in a thread, once the first page has been drawn: its imports would hold that up."""
    timer = threading.Timer(PAINTED_SECONDS, work)
    timer.daemon = True
    timer.start()


@cache
def _freeze_what_stays() -> None:
    """Streamlit collects garbage after every run of the script; what is imported by now need not be looked at again."""
    gc.freeze()

"""Long work in a child process: progress, cancel, result. Knows no datasets and no projects.

    Job.start("annotator.dataset:build", {...}, folder)      in the app or the command line
      └─ python -m annotator.jobs TARGET FOLDER              a process of its own, never a fork
           └─ build(arguments, report) -> result             JSON in, JSON out

    Worker.start("annotator.models.keras_tasks:run", folder).call({...}, timeout)
      └─ python -m annotator.jobs --worker TARGET FOLDER     one that stays, for what is slow to load and quick to run

    Decoders().submit([bytes, ...], sides)                   (see decoders.py, which is imported only where it is used)
      └─ python -m annotator.jobs.decoders                   decodes image by image, under limits

A target is `module:function` and takes (arguments: dict, report: Report). It is named by code, never by what a person
typed: whoever names it chooses what is run.

Every child reads what its parent sends from a pipe whose writing end only the parent has: when the parent dies, by
whatever death, the pipe closes and the child ends, with everything it started.
"""

from annotator.durable import UNFINISHED, no_room
from annotator.jobs.child import WRITE_SECONDS, answers_apart, record
from annotator.jobs.files import FIGURES, LOG, OUTCOME, PROGRESS, REQUEST, TEMPORARY, Json, Progress
from annotator.jobs.job import Job, Status
from annotator.jobs.worker import Worker

__all__ = [
    "FIGURES",
    "LOG",
    "OUTCOME",
    "PROGRESS",
    "REQUEST",
    "TEMPORARY",
    "UNFINISHED",
    "WRITE_SECONDS",
    "Job",
    "Json",
    "Progress",
    "Status",
    "Worker",
    "answers_apart",
    "no_room",
    "record",
]

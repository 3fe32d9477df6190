"""Jobs that read a source anew: labels are never put on other images than they were given to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator import candidates, finetuning
from annotator.config import Config
from annotator.errors import SourceError
from annotator.project import Project
from annotator.types import silent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for number in range(160):
        path = folder / ("dark", "light")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(number % 2 * 127)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def project(tmp_path: Path, photos: Path) -> Iterator[Project]:
    config = Config(
        name="photos",
        source="folder",
        source_parameters={"path": str(photos), "classes_from_folders": True},
        encoder="auto",
        encoder_parameters={"choice": "pixels"},
        model="vote",
        initial="known",
        n_neighbors=3,
    )
    made = Project.create(tmp_path / "projects" / "photos", config)
    made.learner.learn()
    yield made
    made.close()


def one_comes_first(photos: Path) -> None:
    """All rows are one later then."""
    Image.new("RGB", (8, 8), "red").save(photos / "dark" / "!.png")


def one_is_another(photos: Path) -> None:
    """Under the same id."""
    Image.new("RGB", (9, 9), "red").save(photos / "dark" / "000.png")


@pytest.mark.parametrize("change", [one_comes_first, one_is_another])
def test_no_label_is_put_on_another_image(project: Project, photos: Path, change: Any) -> None:
    """A folder that has changed since the import ends each job before a model is fitted; the labels stay."""
    arguments = {
        candidates.judge_job: candidates.to_judge("hog", project),
        finetuning.train_job: finetuning.arguments(project),
    }
    change(photos)
    for job, given in arguments.items():
        assert given is not None
        with pytest.raises(SourceError, match="images have changed since the project was created") as refused:
            job(given, silent)
        assert refused.value.code == "SRC_CHANGED"
    assert (project.learner.labels >= 0).sum() == 160

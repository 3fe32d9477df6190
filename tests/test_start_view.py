"""The import form and the project of a tab as the script draws them: what is chosen now decides, whatever it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from annotator.config import Config
from annotator.dataset import open_source
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.ui import tab as tab_state
from annotator.ui.server import PROJECTS, ROOT
from annotator.ui.shared import workspace
from annotator.ui.views.new_project import KNOWN


def import_form() -> None:
    """The form as a script of its own; what it would create is noted."""
    import streamlit as st

    from annotator.ui import tab
    from annotator.ui.views import new_project

    chosen = new_project.choose_images()
    if chosen is not None:
        new_project.config_form(chosen, lambda config: st.session_state.__setitem__("created", config))
    for _, message in tab.take_notices():
        st.error(message)


def opened_project() -> None:
    """The project that this tab shows."""
    import streamlit as st

    from annotator.ui import tab

    project = tab.current_project()
    st.text("none" if project is None else project.store.project_id)


def whose() -> None:
    """Who answers in this tab."""
    import streamlit as st

    from annotator.ui import tab

    st.text(tab.annotator())


def settings() -> None:
    """The settings of this tab's project."""
    from annotator.ui import tab
    from annotator.ui.views import label

    project = tab.current_project()
    assert project is not None
    label._settings_popover(project, tab.session(project))
    label._key_form(project, tab.session(project).class_names)


def swap_panel() -> None:
    """What the labeling view says on another encoder, in this tab's project."""
    from annotator.ui import tab
    from annotator.ui.views import features

    project = tab.current_project()
    assert project is not None
    features.render(project)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders named images, with other sub-folders each."""
    for name in ("a/images/Cat", "a/images/Dog", "b/images/elm", "b/images/oak"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (40 * number, 9, 9)).save(tmp_path / name / f"{number}.png")
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setenv(PROJECTS, str(tmp_path / "projects"))
    return tmp_path


@pytest.fixture
def form(root: Path) -> AppTest:
    return AppTest.from_function(import_form, default_timeout=30).run()


def choose(form: AppTest, path: str) -> None:
    form.selectbox(key="folder-path").set_value(path).run()


def create(form: AppTest) -> Any:  # Any: Config, of the script's own import
    form.button(key="create-folder").click().run()
    return form.session_state["created"]


def test_the_folder_that_is_chosen_now_gives_the_classes(form: AppTest) -> None:
    """P1: after another folder of the same name was chosen before; its labels are known, its classes offered."""
    choose(form, "a/images")
    form.radio(key="folder-use").set_value(KNOWN).run()
    assert form.text_area(key="folder-classes").value == "Cat\nDog"
    choose(form, "b/images")
    assert form.text_area(key="folder-classes").value == "elm\noak"
    config = create(form)
    assert (config.classes, config.initial) == (("elm", "oak"), "known")
    assert not form.exception


def test_class_folders_are_called_as_on_the_disk(form: AppTest, root: Path) -> None:
    """P12: "100%", not "100%25", and their labels are known."""
    (root / "b" / "images" / "elm").rename(root / "b" / "images" / "100%")
    choose(form, "b/images")
    form.radio(key="folder-use").set_value(KNOWN).run()
    config = create(form)
    assert config.classes == open_source(config.recipe).class_names == ("100%", "oak")


def test_what_was_typed_right_before_the_click_counts(form: AppTest) -> None:
    """P1: the fields are read at the click; a form that was drawn for other images creates nothing."""
    choose(form, "a/images")
    form.text_area(key="folder-classes").set_value("x\ny")
    assert create(form).classes == ("x", "y")
    del form.session_state["created"]
    form.selectbox(key="folder-path").set_value("b/images")
    form.button(key="create-folder").click().run()
    assert "created" not in form.session_state
    assert "Other images were chosen" in form.error[0].value


@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 3000, "a\0b", "~nobody", "~", "/etc/passwd/x"])
def test_any_path_may_be_typed(path: str, root: Path) -> None:
    """S7, P9: too long, with NUL, another user's home, below a file: a sentence, never a traceback."""
    form = AppTest.from_function(import_form, default_timeout=30)
    form.session_state["folder-path"] = path
    form.run()
    assert len(form.error) == 1
    assert not form.exception


def test_only_ones_own_home_is_expanded(form: AppTest, root: Path) -> None:
    """P9: a folder whose name begins with "~" is a folder."""
    (root / "a" / "images").rename(root / "~root")
    form.run()
    assert "~root" in form.selectbox(key="folder-path").options
    choose(form, "~root")
    form.radio(key="folder-use").set_value(KNOWN).run()
    assert create(form).source_parameters["path"] == str(root / "~root")


# ---- uploads


def upload(form: AppTest, number: int) -> None:
    file = io.BytesIO()
    np.savez(file, images=np.full((4, 8, 8), number, dtype=np.uint8), labels=np.array([0, 1, 0, 1]))
    form.file_uploader(key="upload").set_value((f"{number}.npz", file.getvalue(), "application/zip")).run()


def test_uploads_are_removed_once_nobody_needs_them(form: AppTest, root: Path) -> None:
    """S11: the next upload of a tab takes the place of the last, unless a project is made from that."""

    def names() -> set[str]:
        return {path.stem for path in (root / "projects").glob(".uploads/*/*")}

    for number in range(3):
        upload(form, number)
        assert form.text_area(key="folder-classes").value == "0\n1"
        assert names() == {str(number)}
    form.radio(key="folder-use").set_value(KNOWN).run()
    config = replace(create(form), encoder="pixels", n_neighbors=2)
    Project.create(root / "projects" / "x", config).close()
    for number in (3, 4):
        upload(form, number)
        assert names() == {"2", str(number)}
    form.file_uploader(key="upload").set_value(None).run()
    workspace().uploads.remove_unused()
    assert names() == {"2"}
    assert not form.exception


# ---- which project


@pytest.fixture
def listed(root: Path) -> Iterator[Path]:
    """The projects folder, with the project `h` in it, and another `h` elsewhere."""
    config = Config(name="photos", source="digits", limit=20, encoder="pixels")
    for folder in (root / "projects" / "h", root / "elsewhere" / "h"):
        Project.create(folder, config).close()
    yield root / "projects"
    workspace().close()


def test_only_names_in_the_list_open(listed: Path) -> None:
    """S3: a path elsewhere, an absolute one, a way round and a hidden folder are no projects."""
    outside = str(listed.parent / "elsewhere" / "h")
    (listed / ".hidden").symlink_to(outside)
    for name in ("../elsewhere/h", outside, "h/../h", "h/", "./h", ".hidden", "", "x" * 5000, "a\0b"):
        tab = AppTest.from_function(opened_project, default_timeout=30)
        tab.query_params["project"] = name
        tab.session_state["project"] = name
        tab.run()
        assert not tab.exception
        assert [text.value for text in tab.text] == ["none"], name
        assert workspace().opened() == []


def test_a_store_is_open_once(listed: Path) -> None:
    """S3: a link in the list to a project in the list is that project."""
    (listed / "also").symlink_to(listed / "h")
    assert workspace().open("also") is workspace().open("h")


def test_settings_start_from_what_holds_now(listed: Path) -> None:
    """P1: somebody else has changed them since this tab drew them; what nobody touched is not changed back."""
    tab = AppTest.from_function(settings, default_timeout=30)
    tab.query_params["project"] = "h"
    tab.run()
    tab.selectbox(key="set-strategy").set_value("random").run()
    workspace().open("h").change(batch_size=5, class_keys={"3": "x"})
    tab.run()
    held = tab.number_input(key="set-batch-size").value, tab.selectbox(key="set-strategy").value
    assert held == (5, "entropy")
    assert tab.text_input(key="class-key-3").value == "x"
    assert not tab.exception
    assert not tab.warning


def test_a_closed_popover_knows_its_values_when_it_is_opened(listed: Path) -> None:
    """A value that a run sets is sent in that run alone; a field that is first drawn later starts from its default."""
    tab = AppTest.from_function(settings, default_timeout=30)
    tab.query_params["project"] = "h"
    tab.run()
    tab.run()
    config = workspace().open("h").config
    chosen = tab.selectbox(key="set-strategy")
    assert chosen.options[chosen.proto.default] == config.strategy
    assert tab.number_input(key="set-batch-size").proto.default == config.batch_size
    assert not tab.warning


def test_settings_show_the_parameters_of_the_chosen_encoder(listed: Path) -> None:
    """Auto first, combinations last; those of the encoder in use as they are; what is refused is said at once."""
    tab = AppTest.from_function(settings, default_timeout=30)
    tab.query_params["project"] = "h"
    tab.run()
    names = tab.selectbox(key="set-encoder").options
    assert (names[0], names[-3:]) == ("auto", ["hog+contrastive", "hog+imagenet", "imagenet+contrastive"])
    tab.selectbox(key="set-encoder").set_value("imagenet").run()
    dimensions = "set-encoder-imagenet-dimensions"
    assert tab.number_input(key=dimensions).value == 128
    tab.number_input(key=dimensions).set_value(9999).run()
    assert [error.value for error in tab.error] == ["imagenet\\.dimensions must be between 1 and 512, not 9999\\."]
    tab.selectbox(key="set-encoder").set_value("auto").run()
    assert not tab.error
    tab.text_input(key="set-encoder-auto-choice").set_value("nothing").run()
    assert "No encoder 'nothing'" in tab.error[0].value
    assert not tab.exception


def export_view() -> None:
    """The export view of this tab's project."""
    from annotator.ui import tab
    from annotator.ui.views import export

    project = tab.current_project()
    assert project is not None
    export.render(project)


def test_the_format_chosen_right_before_the_click_is_written(listed: Path) -> None:
    """P1: the fields are read at the click, not when the button was drawn."""
    tab = AppTest.from_function(export_view, default_timeout=30)
    tab.query_params["project"] = "h"
    tab.run()
    tab.button_group(key="export-format").set_value("jsonl")
    tab.button(key="write-export").click().run()
    assert not tab.exception
    _, arguments = tab.session_state["exporting"]
    assert arguments["format"] == "jsonl"
    assert arguments["path"].endswith(".jsonl")


@pytest.mark.parametrize(("name", "person"), [("oracle", "you"), ("import", "you"), ("ada", "ada")])
def test_nobody_answers_under_a_name_of_the_programs_own(name: str, person: str) -> None:
    """Whatever the address says: the oracle's answers and the known labels are told from a person's by their names."""
    script = AppTest.from_function(whose)
    script.query_params["as"] = name
    assert [text.value for text in script.run().text] == [person]
    if name != person:
        with pytest.raises(ConfigError, match="choose another"):
            tab_state.set_annotator(f" {name} ")


def test_the_first_page_after_a_restart_says_that_an_encoder_goes_on(root: Path) -> None:
    """It is taken up a moment after the page was drawn: the page waits for it. One that cannot start is told."""
    config = Config(name="digits", source="digits", limit=60, encoder="pixels")
    created = Project.create(root / "projects" / "wanted", config)
    created.set_wanted({"encoder": "autoencoder", "encoder_parameters": {}})
    created.close()
    page = AppTest.from_function(swap_panel, default_timeout=30)
    page.query_params["project"] = "wanted"
    page.run()
    assert [caption.value for caption in page.caption] == ["Going on with the encoder autoencoder in a moment."]
    project = workspace().open("wanted")
    workspace().swaps.resume(project)
    assert project.wanted == {}
    assert project.notice.startswith("The encoder autoencoder was not taken up again. ")
    assert not page.run().caption

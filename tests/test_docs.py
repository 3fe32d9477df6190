"""docs/ says what is there: its recipes run through the contract, its words are in use, its paths and links exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from annotator import registry, reports
from annotator.config import Config
from annotator.errors import ConfigError, SourceError
from annotator.project import Project
from tests import test_contracts as contract

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
CONTRIBUTING = (DOCS / "contributing.md").read_text(encoding="utf-8")
RECIPES = {match[1]: match[0] for match in re.findall(r"```python\n(# (\S+)\n.*?)```", CONTRIBUTING, re.S)}
"""File -> the code that the page shows for it."""


# ---- recipes


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The package of the recipes, on disk and installed; kind -> the name of its plug-in."""
    folder = tmp_path_factory.mktemp("installed")
    for name, code in RECIPES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code, encoding="utf-8")
    described = tomllib.loads(next(iter(re.findall(r"```toml\n(.*?)```", CONTRIBUTING, re.S))))["project"]
    points = described["entry-points"]
    info = folder / "extras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {target}\n" for group, named in points.items() for name, target in named.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry._third_party.cache_clear()  # what is installed is looked up once a process
        yield {group.removeprefix("annotator."): next(iter(named)) for group, named in points.items()}
    registry._third_party.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == "extras"]:
        del sys.modules[module]


def test_there_is_a_recipe_for_each_kind(extras: dict[str, str]) -> None:
    """Every kind of plug-in has its class in a file of its own, found by its entry point; and a view has one."""
    assert set(extras) == set(registry.BUILT_IN)
    for kind, name in extras.items():
        assert registry.load(kind, name).__module__.startswith("extras.")
        contract.test_every_plugin_says_in_a_line_what_it_is(kind, name)
    assert set(RECIPES) >= {"extras/dinov2.py"}
    assert len(RECIPES) == len(extras) + 2  # dinov2 and the view


def test_the_recipes_are_in_our_style(extras: dict[str, str], tmp_path: Path) -> None:
    """Lint and format have nothing to say about them."""
    for name, code in RECIPES.items():
        (tmp_path / Path(name).name).write_text(code, encoding="utf-8")
    for arguments in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        ended = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout


def test_the_recipe_of_a_strategy(extras: dict[str, str], projects: Path) -> None:
    """It keeps what every strategy keeps, gives its reason, and asks the questions of a project."""
    name = extras["strategy"]
    for which in contract.POOLS:
        for batch_size in (1, 5, 1000):
            contract.test_a_batch_is_candidates_best_first(name, which, batch_size)
    contract.test_a_batch_is_a_function_of_pool_and_seed(name)
    contract.test_a_strategy_chosen_in_the_config_asks_the_questions(name, projects)
    assert registry.load("strategy", name).reason(1.25) == "1.2 from the nearest label"


def test_the_recipe_of_an_encoder(extras: dict[str, str], tmp_path: Path, projects: Path) -> None:
    """It keeps what every encoder keeps, and a project is made with it."""
    name = extras["encoder"]
    for n_channels in (1, 3):
        contract.test_features_are_finite_numbers_one_row_an_image(name, n_channels)
        contract.test_a_saved_encoder_is_the_same_encoder(name, n_channels, tmp_path)
    contract.test_an_images_features_do_not_depend_on_its_company(name)
    contract.test_flat_images_have_features_too(name)
    contract.test_a_fit_is_a_function_of_images_and_seed(name)
    contract.test_progress_never_falls_and_ends_complete(name)
    made = Project.create(projects / "made", Config(source="digits", limit=30, encoder=name))
    assert made.learner.dataset.features.shape[0] == 30
    made.close()


TORCH = """
import contextlib, types

inference_mode = contextlib.nullcontext

class Network:
    def eval(self):
        return self

    def __call__(self, tensor):
        n, channels, height, width = tensor.array.shape
        assert (channels, height, width) == (3, 224, 224)
        return Tensor(tensor.array.reshape(n, 3, 8, 28, 8, 28).mean(axis=(3, 5)).reshape(n, -1))

class Tensor:
    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array

from_numpy = Tensor
hub = types.SimpleNamespace(load=lambda repository, name: {("facebookresearch/dinov2", "dinov2_vits14"): Network()}[
    repository, name])
"""
"""In torch's place: the calls that the recipe makes, and a network that sees the colours of 8 x 8 cells."""


def test_the_recipe_of_another_packages_network(
    extras: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its package it says what to install; with it, it keeps what every encoder keeps."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="pip install torch"):
        registry.create("encoder", "dinov2")
    monkeypatch.undo()
    (tmp_path / "torch.py").write_text(TORCH, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    contract.test_every_plugin_says_in_a_line_what_it_is("encoder", "dinov2")
    for n_channels in (1, 3):
        contract.test_features_are_finite_numbers_one_row_an_image("dinov2", n_channels)
        contract.test_a_saved_encoder_is_the_same_encoder("dinov2", n_channels, tmp_path)
    contract.test_an_images_features_do_not_depend_on_its_company("dinov2")
    contract.test_flat_images_have_features_too("dinov2")
    monkeypatch.delitem(sys.modules, "torch")


def test_the_recipe_of_a_model(extras: dict[str, str]) -> None:
    """It keeps what every model keeps."""
    name = extras["model"]
    for labeling in contract.LABELINGS:
        contract.test_a_prediction_is_a_probability_for_each_image_and_class(name, labeling)
    contract.test_only_one_class_seen_is_predicted_where_labels_reach(name)
    contract.test_a_refit_is_a_fresh_fit(name)
    contract.test_a_model_learns(name)


def test_the_recipe_of_a_source(extras: dict[str, str], tmp_path: Path, projects: Path) -> None:
    """It keeps what every source keeps, makes a project, and refuses a file that is none of its kind."""
    name, path = extras["source"], tmp_path / "data_batch_1.bin"
    records = np.random.default_rng(0).integers(0, 256, (9, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    path.write_bytes(records.tobytes())
    opened = [registry.create("source", name, {"path": str(path)}) for _ in range(2)]
    contract.test_ids_are_unique_and_stable(opened)
    contract.test_images_are_an_array_or_files(opened)
    contract.test_truth_indexes_the_class_names(opened)
    contract.test_a_test_set_shares_nothing_with_the_pool(opened)
    contract.test_a_source_can_be_shuffled_and_cut(opened)
    contract.test_a_source_makes_a_project((name, {"path": str(path)}), projects)
    for content in (b"", bytes([99]) * 3073, bytes(3074)):
        path.write_bytes(content)
        with pytest.raises(SourceError, match="CIFAR-10"):
            registry.create("source", name, {"path": str(path)})
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        registry.create("source", name, {"path": str(path)})


def test_the_recipe_of_an_exporter(extras: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what every exporter keeps."""
    contract.test_an_export_is_a_file_that_its_line_loads(extras["exporter"], tmp_path, monkeypatch)


def test_the_recipe_of_a_view() -> None:
    """It draws the values that it is given, the largest first."""
    code = next(code for name, code in RECIPES.items() if name.startswith("annotator/ui/"))
    page = AppTest.from_string(code + "\nrender({'a': 1, 'b': 2})").run()
    assert not page.exception
    assert page.dataframe[0].value["class"].tolist() == ["b", "a"]
    assert "3 labels" in page.caption[0].value
    for name in re.findall(r"`\w+\.render\(reports\.(\w+)\(moment\)\)`", CONTRIBUTING):
        assert callable(getattr(reports, name))


# ---- paths and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is a file."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_in_the_docs_exist(page: Path) -> None:
    """What stands in backticks and begins with a folder of ours is there."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"`((?:annotator|tests|docs|assets)/[\w./-]*)`", text):
        assert (ROOT / target).exists(), target
    for module in re.findall(r"python -m ([\w.]+)", text):
        place = module.replace(".", "/")
        assert (ROOT / f"{place}.py").exists() or (ROOT / place / "__main__.py").exists(), module


def test_files_named_in_the_architecture_exist() -> None:
    """Each is somewhere in the package, below the folder that is named with it."""
    named = re.findall(r"`([\w/]+\.(?:py|js))`", (DOCS / "architecture.md").read_text(encoding="utf-8"))
    there = [
        "/app.py",
        *(f"/{path.relative_to(ROOT).as_posix()}" for suffix in (".py", ".js") for path in sources_of(suffix)),
    ]
    assert len(named) > 30
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


# ---- words

GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")


def glossary_rows(heading: str) -> list[tuple[str, str]]:
    """The two columns of the tables under a heading, or under all headings before the last where it is empty."""
    part = GLOSSARY.partition(f"## {heading}")[2] if heading else GLOSSARY.partition("## Words that were replaced")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", part, re.M)
    return [(word.strip(), said.strip()) for word, said in rows if word.strip() not in ("word", "not")]


def sources_of(suffix: str) -> list[Path]:
    return sorted(path for path in (ROOT / "annotator").rglob(f"*{suffix}") if "__pycache__" not in path.parts)


WORDS = [word for word, _ in glossary_rows("")]
REPLACED = [name for word, _ in glossary_rows("Words that were replaced") for name in re.findall(r"`(\w+)`", word)]


def test_a_word_of_the_glossary_is_there_once_and_said_in_a_sentence() -> None:
    """In its order of subjects; each explanation ends in a full stop."""
    assert len(WORDS) == len(set(WORDS)) > 50
    for word, said in glossary_rows(""):
        assert said.endswith("."), word


def test_every_word_of_the_glossary_is_in_use() -> None:
    """It stands in the code, or on another page; spelled with blanks, hyphens or underscores."""
    pages = [path.read_text(encoding="utf-8") for path in PAGES if path.name != "glossary.md"]
    code = [path.read_text(encoding="utf-8") for suffix in (".py", ".js") for path in sources_of(suffix)]
    used = re.sub(r"[-_\s]+", " ", " ".join([*pages, *code]).lower())
    assert [word for word in WORDS if word.lower().replace("-", " ") not in used] == []


def names_of(path: Path) -> set[str]:
    """The module's own name, and those of the classes, functions, fields and constants that it defines."""
    tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    defined = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bodies = [line for node in tree if isinstance(node, ast.Module | ast.ClassDef) for line in node.body]
    targets = [target for line in bodies if isinstance(line, ast.Assign) for target in line.targets]
    targets += [line.target for line in bodies if isinstance(line, ast.AnnAssign)]
    return {path.stem, *defined, *(target.id for target in targets if isinstance(target, ast.Name))}


@pytest.mark.parametrize("word", REPLACED)
def test_a_word_that_was_replaced_names_nothing(word: str) -> None:
    """No module, class, function, field or constant of Python is called so, and no file of the grid."""
    assert [path.name for path in sources_of(".js") if path.stem == word] == []
    assert [str(path.relative_to(ROOT)) for path in sources_of(".py") if word in names_of(path)] == []

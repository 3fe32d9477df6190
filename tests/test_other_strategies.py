"""Query strategies of scikit-activeml and modAL here, and ours there, with the real packages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skactiveml.pool
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import margin_sampling
from skactiveml.classifier import SklearnClassifier
from skactiveml.utils import MISSING_LABEL
from sklearn.linear_model import LogisticRegression

from annotator import registry
from annotator.config import Config
from annotator.errors import ConfigError
from annotator.simulate import simulate
from annotator.strategies import modal, skactiveml_pool
from annotator.strategies.exported import QueryFunction, dataset_of, pool_of
from annotator.strategies.exported_skactiveml import AnnotatorStrategy
from annotator.types import UNLABELED, Choice, FeatureArray, IntArray, Pool, Prediction
from tests.builders import tiny_dataset
from tests.test_contracts import POOLS

LISTED = skactiveml_pool._listed(skactiveml.pool)
USABLE = [
    *(f"skactiveml:{name}" for name in LISTED if name not in skactiveml_pool.CANNOT),
    *(f"modal:{name}" for name in modal.WHERE),
]
OURS = registry.names("strategy")


def create(name: str, **parameters: Any) -> Any:  # Any: each strategy has its own
    return registry.create("strategy", name, parameters)


def ask(name: str, pool: Pool, batch_size: int, seed: int = 0, **parameters: Any) -> Choice:
    choice: Choice = create(name, **parameters).query(pool, batch_size, np.random.default_rng(seed))
    return choice


def lopsided(n: int = 60) -> Pool:
    """99 % of the labels and of the model's belief are of one class, and a third class was never seen."""
    dataset = tiny_dataset(n)
    labels = np.where(np.arange(n) < n // 2, 0, UNLABELED)
    labels[0] = 1
    belief = np.tile([0.99, 0.01, 0.0], (n, 1))
    belief[-5:] = [0.6, 0.4, 0.0]
    return Pool(dataset, labels, Prediction(belief, np.ones(n), members=(belief, belief)), np.arange(n // 2, n))


def with_members(pool: Pool) -> Pool:
    """The same pool by a model that has members and evidence: a committee needs the one, ProbabilisticAL the other."""
    said, evidence = pool.prediction.probabilities, pool.prediction.evidence
    members = pool.prediction.members or (said, said[:, ::-1])
    evidence = np.ones(len(said)) if evidence is None else evidence
    return replace(pool, prediction=Prediction(said, evidence, members=members))


CASES = {which: with_members(pool) for which, pool in {**POOLS, "lopsided": lopsided()}.items()}


# ---- theirs here

REFUSED = {
    ("skactiveml:ProbabilisticAL", "200 classes"): "GiB for this pool of 60 images",
}
"""Pools that a strategy cannot choose from, and what it says."""
QUICKER: dict[tuple[str, str], dict[str, Any]] = {
    ("skactiveml:CostEmbeddingAL", "200 classes"): {"mds_params": {"n_init": 1, "max_iter": 3}}
}
"""Parameters where the default ones take minutes."""


@pytest.mark.parametrize("name", USABLE)
def test_their_batches_keep_the_contract(name: str) -> None:
    """Candidates alone, none twice, as many as there are to ask, finite scores that never rise; equal seeds agree."""
    for which, pool in CASES.items():
        if (name, which) in REFUSED:
            with pytest.raises(ConfigError, match=REFUSED[name, which]):
                ask(name, pool, 5)
            continue
        more = QUICKER.get((name, which), {})
        for batch_size in (1, 1000) if which == "many" else (5,):
            choice, again = (ask(name, pool, batch_size, **more) for _ in range(2))
            assert len(choice.rows) == len(choice.scores) == min(batch_size, len(pool.candidates)), which
            assert set(choice.rows.tolist()) <= set(pool.candidates.tolist())
            assert len(set(choice.rows.tolist())) == len(choice.rows)
            assert np.isfinite(choice.scores).all()
            assert (np.diff(choice.scores) <= 0).all()
            np.testing.assert_array_equal(choice.rows, again.rows)
            np.testing.assert_array_equal(choice.scores, again.scores)


def test_every_pool_based_strategy_is_usable_or_has_its_reason() -> None:
    """A release that brings another one is noticed: it must be tried, or stand among those that cannot be used."""
    assert set(skactiveml_pool.CANNOT) <= set(LISTED)
    assert len(USABLE) == len(LISTED) - len(skactiveml_pool.CANNOT) + len(modal.WHERE)


@pytest.mark.parametrize(
    ("ours", "theirs", "parameters"),
    [
        ("margin", "skactiveml:UncertaintySampling", {"method": "margin_sampling"}),
        ("entropy", "skactiveml:UncertaintySampling", {"method": "entropy"}),
        ("least-confidence", "skactiveml:UncertaintySampling", {}),
        ("margin", "modal:margin_sampling", {}),
        ("entropy", "modal:entropy_sampling", {}),
        ("least-confidence", "modal:uncertainty_sampling", {}),
    ],
)
def test_the_same_definition_asks_the_same_images(ours: str, theirs: str, parameters: dict[str, Any]) -> None:
    """Margin, entropy and least confidence of the project's model, ours and theirs: equal rows in equal order."""
    for which in ("many", "two classes", "few left"):
        expected, found = ask(ours, POOLS[which], 8), ask(theirs, POOLS[which], 8, **parameters)
        np.testing.assert_array_equal(found.rows, expected.rows)


def test_the_projects_model_is_asked_and_not_another() -> None:
    """A classifier of theirs gets the probabilities of the model: doubt on known rows is what is asked about."""
    pool = lopsided()
    for name in ("skactiveml:UncertaintySampling", "modal:margin_sampling", "modal:entropy_sampling"):
        assert set(ask(name, pool, 5).rows.tolist()) == set(range(55, 60))


def test_a_committee_is_the_votes_members() -> None:
    """Where members differ a committee asks; a model without members is told so by name."""
    dataset = tiny_dataset(30)
    one, other = (np.tile(row, (30, 1)).astype(float) for row in ([0.9, 0.1], [0.9, 0.1]))
    other[[7, 19]] = [0.1, 0.9]
    labels = np.full(30, UNLABELED)
    pool = Pool(dataset, labels, Prediction((one + other) / 2, members=(one, other)), np.arange(30))
    for name in ("skactiveml:QueryByCommittee", "modal:vote_entropy_sampling", "modal:max_disagreement_sampling"):
        assert set(ask(name, pool, 2).rows.tolist()) == {7, 19}
        with pytest.raises(ConfigError, match=r"model is none\. Choose the model vote"):
            ask(name, replace(pool, prediction=Prediction(one)), 2)


def test_frequencies_are_the_models_evidence_or_their_own() -> None:
    """Without evidence ProbabilisticAL says what to do, and doing it helps."""
    pool = replace(POOLS["many"], prediction=Prediction(POOLS["many"].prediction.probabilities))
    with pytest.raises(ConfigError, match="Give it the parameter metric=rbf"):
        ask("skactiveml:ProbabilisticAL", pool, 3)
    assert len(ask("skactiveml:ProbabilisticAL", pool, 3, metric="rbf").rows) == 3


def test_typiclust_draws_where_no_cluster_is_left() -> None:
    """All images alike are one cluster with labels in it: a batch is asked nevertheless, by the seed."""
    pool = POOLS["many"]
    alike = replace(pool, dataset=replace(pool.dataset, features=np.ones((60, 4), dtype=np.float32)))
    choice = ask("skactiveml:TypiClust", alike, 5)
    assert len(set(choice.rows.tolist())) == 5
    np.testing.assert_array_equal(choice.rows, ask("skactiveml:TypiClust", alike, 5).rows)


def test_a_repeat_is_replaced() -> None:
    """TypiClust can name an image twice where a cluster has no candidate: another comes in its place."""
    pool = POOLS["many"]
    few = replace(pool, candidates=pool.candidates[:6])
    for seed in range(10):
        assert sorted(ask("skactiveml:TypiClust", few, 6, seed).rows) == sorted(few.candidates)


@pytest.mark.parametrize("name", ["skactiveml:UncertaintySampling", "modal:margin_sampling"])
def test_parameters_are_theirs_and_text_is_read(name: str) -> None:
    """A command line has only text; a wrong parameter is refused with those that there are, a wrong value typed."""
    pool = POOLS["all alike"]
    if name.startswith("modal"):
        first, second = (ask(name, pool, 8, seed, random_tie_break="true") for seed in (0, 1))
        assert not np.array_equal(first.rows, second.rows)
        np.testing.assert_array_equal(first.rows, ask(name, pool, 8, 0, random_tie_break=True).rows)
    else:
        costs = "[[0, 1, 1], [9, 0, 1], [1, 1, 0]]"
        assert len(ask(name, POOLS["many"], 3, cost_matrix=costs).rows) == 3
        with pytest.raises(ConfigError, match="magrin is not valid"):
            ask(name, pool, 3, method="magrin")
    with pytest.raises(ConfigError, match=r"has no parameter 'depth'\. It takes: "):
        create(name, depth=3)


def test_global_random_numbers_are_left_as_they_were() -> None:
    """modAL draws from NumPy's global generator; whoever else uses it sees nothing of that."""
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002  # what modAL uses
    ask("modal:margin_sampling", POOLS["many"], 4, random_tie_break=True)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002  # what modAL uses


def test_two_threads_draw_from_the_global_generator_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is that of its seed, and the generator is as before, though both ask at once."""
    pool = POOLS["all alike"]
    function = modal.named("margin_sampling").function  # type: ignore[attr-defined]  # of the class that it makes

    def slow(asked: Any, features: FeatureArray, **given: Any) -> Any:
        time.sleep(0.01)
        return function(asked, features, **given)

    expected = [ask("modal:margin_sampling", pool, 4, seed, random_tie_break=True).rows.tolist() for seed in range(8)]
    monkeypatch.setattr(modal.named("margin_sampling"), "function", staticmethod(slow))
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002  # what modAL uses

    def asked_with(seed: int) -> list[int]:
        return list(ask("modal:margin_sampling", pool, 4, seed, random_tie_break=True).rows.tolist())

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(asked_with, range(8))) == expected
    assert len({tuple(rows) for rows in expected}) > 1
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002  # what modAL uses


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "skactiveml:Typiclust",
            "no query strategy 'Typiclust'. Did you mean: TypiClust? Choose from: Random",
        ),
        ("skactiveml:", "no query strategy ''. Choose from: RandomSampling, "),
        ("skactiveml:uncertainty_scores", "no query strategy 'uncertainty_scores'"),
        ("skactiveml:MonteCarloEER", "cannot be used here: it fits the classifier anew for each candidate"),
        ("modal:margin", "no query strategy 'margin'. Choose from: uncertainty_sampling, margin_sampling, "),
        ("modal:expected_error_reduction", "cannot be used here: modAL 0.4.2.1 cannot import it with NumPy 2"),
        ("scikit:x", "skactiveml:NAME, modal:NAME"),
    ],
)
def test_a_name_that_cannot_be_used_says_which_can(name: str, message: str) -> None:
    """ConfigError with those that exist, or with the reason."""
    with pytest.raises(ConfigError) as caught:
        registry.load("strategy", name)
    assert message in str(caught.value)


def test_a_large_pool_is_refused_before_the_memory_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compares every two images says how much it would take."""
    monkeypatch.setattr(skactiveml_pool, "MOST_CELLS", 60 * 60 - 1)
    with pytest.raises(ConfigError, match=r"for this pool of 60 images"):
        ask("skactiveml:ProbCover", POOLS["many"], 3)
    assert len(ask("skactiveml:CoreSet", POOLS["many"], 3).rows) == 3


def test_the_answers_own_size_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Utilities of every image for every place of a batch: a smaller batch of the same pool is asked."""
    monkeypatch.setattr(skactiveml_pool, "MOST_CELLS", 4 * 60)
    with pytest.raises(ConfigError, match=r"of 60 images and a batch of 5, .* smaller batches"):
        ask("skactiveml:RandomSampling", POOLS["many"], 5)
    assert len(ask("skactiveml:RandomSampling", POOLS["many"], 4).rows) == 4


@pytest.mark.parametrize("name", [name for name in USABLE if name.startswith("skactiveml:")])
def test_no_array_is_larger_than_was_reckoned(name: str) -> None:
    """What is refused by its size is what would be made: ten classes, a batch of 20, traced."""
    dataset = tiny_dataset(400)
    rng = np.random.default_rng(0)
    parts = tuple(rng.dirichlet(np.ones(10), size=400) for _ in range(3))
    labels = np.where(np.arange(400) < 40, np.arange(400) % 10, UNLABELED)
    pool = Pool(dataset, labels, Prediction(sum(parts) / 3, np.ones(400), members=parts), np.arange(40, 400))  # type: ignore[arg-type]  # a sum of arrays
    asked = create(name)
    reckoned = skactiveml_pool._cells(name.partition(":")[2], asked.parameters, pool, 360, 20)
    asked.query(pool, 20, np.random.default_rng(0))  # imports and caches
    tracemalloc.start()
    asked.query(pool, 20, np.random.default_rng(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    few_tables = 5 * pool.dataset.features.size + 5 * pool.prediction.probabilities.size
    assert peak / 8 < 6 * reckoned + few_tables


ABSENT = """
import sys
sys.modules["skactiveml"] = sys.modules["modAL"] = None
from annotator import registry
from annotator.errors import ConfigError
for name in ("skactiveml:TypiClust", "modal:margin_sampling"):
    registry.check_name("strategy", name)
    try:
        registry.load("strategy", name)
    except ConfigError as error:
        print(error)
import annotator.strategies.exported
print(registry.names("strategy") == registry.offered("strategy"))
"""


def test_without_the_extra_everything_else_works() -> None:
    """A missing package is an error that names the extra; the app's list and ours for modAL need neither."""
    done = subprocess.run([sys.executable, "-c", ABSENT], capture_output=True, text=True, check=True)
    first, second, listed = done.stdout.splitlines()
    for line, package in ((first, "scikit-activeml"), (second, "modAL")):
        assert f"needs {package}, which is not installed" in line
        assert line.endswith("pip install '.[active-learning]'")
    assert listed == "True"


def test_importing_them_brings_no_pytorch() -> None:
    """Neither package needs it: a project that uses them starts as fast as before."""
    code = "import sys, modAL.batch, modAL.disagreement, skactiveml.pool; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["skactiveml:Badge", "modal:uncertainty_batch_sampling"])
def test_a_project_asks_by_theirs(name: str, projects: Path) -> None:
    """Chosen in the configuration it decides what is asked once two classes are known, and is named on the question."""
    config = Config(
        source="digits", limit=80, encoder="pixels", strategy=name, initial="first:20", batch_size=4, rounds=2
    )
    rows = list(simulate(config, projects / "made"))
    again = list(simulate(config, projects / "again"))
    asked, expected = ([row.get("asked_rows") for row in each] for each in (rows, again))
    assert asked == expected
    assert len(asked[0]) == len(asked[1]) == 4


def test_theirs_are_chosen_on_the_command_line(projects: Path) -> None:
    """By name, with parameters as text."""
    written = projects / "rounds.json"
    command = "simulate --source digits --limit 60 --encoder pixels --initial first:20 --rounds 2 --batch-size 4"
    chosen = "--strategy skactiveml:UncertaintySampling --strategy-parameter method=margin_sampling"
    whole = [sys.executable, "-m", "annotator", *command.split(), *chosen.split(), "--json", str(written)]
    done = subprocess.run(whole, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = json.loads(written.read_text())["config"]
    assert config["strategy"] == "skactiveml:UncertaintySampling"
    assert config["strategy_parameters"] == {"method": "margin_sampling"}


# ---- ours there


def classes_apart(n: int = 120, seed: int = 0) -> tuple[FeatureArray, IntArray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    return (3 * np.eye(3)[truth] + rng.normal(0, 1, (n, 3))).astype(np.float32), truth


@pytest.mark.parametrize("name", OURS)
def test_ours_run_in_scikit_activemls_loop(name: str) -> None:
    """Each round asks as many unlabeled samples, none twice; the classifier of their cycle learns."""
    features, truth = classes_apart()
    y = np.full(len(truth), MISSING_LABEL)
    y[:6] = truth[:6]
    classifier = SklearnClassifier(LogisticRegression(), classes=[0, 1, 2])
    strategy = AnnotatorStrategy(name, random_state=0)
    for _ in range(4):
        rows, utilities = strategy.query(features, y, clf=classifier, batch_size=3, return_utilities=True)
        assert len(set(rows.tolist())) == 3
        assert np.isnan(y[rows]).all()
        assert utilities.shape == (3, len(truth))
        for place, row in enumerate(rows):
            assert np.nanargmax(utilities[place]) in rows[place:]
            assert np.isnan(utilities[place, rows[:place]]).all()
            assert utilities[place, row] > -np.inf
        y[rows] = truth[rows]
    assert np.isfinite(y).sum() == 18
    assert classifier.fit(features, y).score(features, truth) > 0.6


def test_ours_ask_theirs_candidates_and_answers() -> None:
    """Rows given as candidates alone are asked; labels may be words; a fitted classifier is left as it is."""
    features, truth = classes_apart()
    words = np.array(["ant", "bee", "cat"])[truth]
    y = np.where(np.arange(120) < 9, words, "?")
    classifier = SklearnClassifier(LogisticRegression(), missing_label="?", classes=["ant", "bee", "cat"])
    classifier.fit(features, y)
    strategy = AnnotatorStrategy("margin", missing_label="?", random_state=1)
    rows = strategy.query(features, y, clf=classifier, fit_clf=False, candidates=np.arange(60, 80), batch_size=4)
    probabilities = np.sort(classifier.predict_proba(features[60:80]), axis=1)
    closest = np.argsort(probabilities[:, -1] - probabilities[:, -2], kind="stable")[:4] + 60
    np.testing.assert_array_equal(rows, closest)


def test_their_margin_and_ours_agree_in_their_loop() -> None:
    """The same classifier and the same definition: the same rows, whichever strategy object is asked."""
    features, truth = classes_apart()
    y = np.full(len(truth), MISSING_LABEL)
    y[:12] = truth[:12]
    classifier = SklearnClassifier(LogisticRegression(), classes=[0, 1, 2])
    theirs = skactiveml.pool.UncertaintySampling(method="margin_sampling", random_state=0)
    ours = AnnotatorStrategy("margin")
    expected = theirs.query(features, y, clf=classifier, batch_size=10)
    np.testing.assert_array_equal(ours.query(features, y, clf=classifier, batch_size=10), expected)


def test_first_rows_need_no_classifier_and_a_clone_asks_alike() -> None:
    """Without labels and classifier `typical` asks; scikit-learn's clone has the same parameters, so the same rows."""
    from sklearn.base import clone

    features, truth = classes_apart()
    y = np.full(len(truth), MISSING_LABEL)
    strategy = AnnotatorStrategy("typical", random_state=3)
    rows = strategy.query(features, y, batch_size=3)
    assert set(truth[rows]) == {0, 1, 2}
    np.testing.assert_array_equal(clone(strategy).query(features, y, batch_size=3), rows)


@pytest.mark.parametrize("name", OURS)
def test_labels_without_a_classifier_are_enough_to_ask(name: str) -> None:
    """Of three classes, or of one: every sample looks alike, and a full batch is asked; as modAL has it as well."""
    features, truth = classes_apart()
    for labeled in (np.arange(9), np.arange(0, 9, 3)):
        y = np.full(len(truth), MISSING_LABEL)
        y[labeled] = truth[labeled]
        rows = AnnotatorStrategy(name, random_state=0).query(features, y, batch_size=5)
        assert len(set(rows.tolist()) - set(labeled.tolist())) == 5
    given = np.where(np.arange(120) < 9, truth, UNLABELED)
    pool = pool_of(dataset_of(features), given, np.arange(9, 120))
    assert len(ask(name, pool, 5).rows) == 5
    assert pool.prediction.probabilities.sum(axis=1) == pytest.approx(np.ones(120))


def test_an_unknown_name_is_told_in_their_loop() -> None:
    """As everywhere: with those that exist."""
    features, truth = classes_apart()
    with pytest.raises(ConfigError, match="No query strategy 'magrin'"):
        AnnotatorStrategy("magrin").query(features, np.full(len(truth), MISSING_LABEL))
    with pytest.raises(ConfigError, match="No query strategy 'magrin'"):
        QueryFunction("magrin")


def learner_of(strategy: Any, features: FeatureArray, truth: IntArray, rows: IntArray) -> ActiveLearner:
    """modAL's `teach` fails with scikit-learn 1.8 and later, so each round makes its learner anew."""
    return ActiveLearner(LogisticRegression(), strategy, X_training=features[rows], y_training=truth[rows])


@pytest.mark.parametrize("name", OURS)
def test_ours_run_in_an_active_learner_of_modal(name: str) -> None:
    """Each query gives as many rows of the pool as asked for, none twice, with the images and their scores."""
    features, truth = classes_apart()
    labeled, strategy = np.arange(6), QueryFunction(name, seed=0)
    for _ in range(4):
        left = np.setdiff1d(np.arange(120), labeled)
        learner = learner_of(strategy, features, truth, labeled)
        rows, images, scores = learner.query(features[left], n_instances=3, return_metrics=True)
        assert len(set(rows.tolist())) == len(scores) == 3
        np.testing.assert_array_equal(images, features[left][rows])
        labeled = np.append(labeled, left[rows])
    assert learner_of(strategy, features, truth, labeled).score(features, truth) > 0.6


def test_our_margin_and_modals_agree_in_their_learner() -> None:
    """The same learner and the same definition: the same rows, class labels being words."""
    features, truth = classes_apart()
    words = np.array(["ant", "bee", "cat"])[truth]
    rows = np.arange(9)
    ours, theirs = (learner_of(each, features, words, rows) for each in (QueryFunction("margin"), margin_sampling))
    found, expected = (set(each.query(features[9:], n_instances=7)[0].tolist()) for each in (ours, theirs))
    assert found == expected


def test_a_committee_of_modal_and_a_learner_before_its_first_fit() -> None:
    """Both are asked: a committee's members are known to the strategy, and without a fit `typical` needs none."""
    features, truth = classes_apart()
    learners = [learner_of(margin_sampling, features, truth, rows) for rows in (np.arange(9), np.arange(3, 15))]
    committee = Committee(learners, QueryFunction("margin"))
    rows, _ = committee.query(features[15:], n_instances=4)
    assert len(set(rows.tolist())) == 4
    unfitted = ActiveLearner(LogisticRegression(), QueryFunction("typical"))
    rows, _ = unfitted.query(features, n_instances=3)
    assert set(truth[rows]) == {0, 1, 2}


def test_a_dataset_of_arrays_is_one() -> None:
    """Equal rows are one group, the graph is made when it is looked at, there are no pictures."""
    features = np.repeat(classes_apart(20)[0], 2, axis=0)
    dataset = dataset_of(features)
    assert list(dataset.group) == list(np.repeat(np.arange(0, 40, 2), 2))
    assert dataset.version == dataset_of(features).version != dataset_of(features[1:]).version
    assert dataset.graph.affinity.shape == (40, 40)
    assert dataset.graph.connect(features[:3]).shape == (3, 40)
    assert "neighbours" in dataset.graph.description
    with pytest.raises(ConfigError, match="no pictures"):
        dataset.open_image(0, 8)


def test_labels_of_no_class_are_refused() -> None:
    """A classifier that was fitted before a class came is told, rather than its columns read as others."""
    features, truth = classes_apart()
    y = np.full(len(truth), MISSING_LABEL)
    y[:9] = truth[:9]
    classifier = SklearnClassifier(LogisticRegression()).fit(features, np.where(y == 2, MISSING_LABEL, y))
    with pytest.raises(ConfigError, match="none of the classifier's classes"):
        AnnotatorStrategy("margin").query(features, y, clf=classifier, fit_clf=False)

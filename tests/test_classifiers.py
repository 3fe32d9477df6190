"""The classifiers against scikit-learn used directly; the vote against its members.

Longer than other files: each classifier and the vote are held to the same rules, side by side.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # ships no types

from annotator import registry
from annotator.errors import ConfigError, ModelError
from annotator.models import classifiers, kernel_ridge
from annotator.models.classifiers import Classifier
from annotator.models.priors import evened, evening
from annotator.models.vote import Vote, likeliest_shares
from annotator.types import (
    UNLABELED,
    Dataset,
    FeatureArray,
    FloatArray,
    IntArray,
    Model,
    Opinion,
    Prediction,
    predict_held_out,
)
from tests.builders import tiny_dataset

SUPERVISED = ("random-forest", "svc", "knn", "logistic-regression", "sklearn:GaussianNB")
EVERY = (*SUPERVISED, "self-training", "kernel-ridge", "vote")


def hard_dataset(n: int = 90) -> Dataset:
    """Three classes that overlap, so that no two estimators quite agree."""
    dataset = tiny_dataset(n, n_held_out=20)
    noise = np.random.default_rng(7).normal(0, 0.8, dataset.features.shape).astype(np.float32)
    return dataclasses.replace(dataset, features=dataset.features + noise)


def some_labels(dataset: Dataset, n: int = 30) -> IntArray:
    """The truth of the first `n` images."""
    assert dataset.truth is not None
    return np.where(np.arange(len(dataset)) < n, dataset.truth, UNLABELED)


def create(name: str, **parameters: Any) -> Model:
    model: Model = registry.create("model", name, parameters)
    return model


def direct(estimator: Any, dataset: Dataset, labels: IntArray) -> FloatArray:
    """What scikit-learn says when it is used without the app."""
    features, labeled = dataset.features.astype(np.float64), labels != UNLABELED
    return np.asarray(estimator.fit(features[labeled], labels[labeled]).predict_proba(features))


@pytest.mark.parametrize(
    ("name", "parameters", "estimator"),
    [
        ("random-forest", {}, RandomForestClassifier(random_state=0)),
        ("random-forest", {"n_trees": 7, "seed": 3}, RandomForestClassifier(7, random_state=3)),
        ("knn", {"n_neighbors": 4}, KNeighborsClassifier(4, weights="distance")),
        ("svc", {"c": 2.0}, CalibratedClassifierCV(SVC(C=2.0), method="temperature", cv=5, ensemble=False)),
        ("sklearn:GaussianNB", {}, GaussianNB()),
        ("sklearn:KNeighborsClassifier", {"n_neighbors": "7"}, KNeighborsClassifier(7)),
        ("sklearn:RandomForestClassifier", {"max_depth": "2"}, RandomForestClassifier(max_depth=2, random_state=0)),
    ],
)
def test_a_classifier_is_scikit_learns(name: str, parameters: dict[str, Any], estimator: Any) -> None:
    """Fitted on the labeled images alone, it says what the estimator says."""
    dataset = hard_dataset()
    labels = some_labels(dataset)
    found = create(name, **parameters).fit_predict(dataset, labels, 3)
    np.testing.assert_allclose(found.probabilities, direct(estimator, dataset, labels), atol=1e-7, rtol=0)
    assert found.evidence is None


def test_logistic_regression_measures_c_in_the_features_own_spread() -> None:
    """scikit-learn's C divided by the sum of the labeled images' variances: in another unit it says the same.

    The fit is in double precision, what it says of images in single.
    """
    dataset = hard_dataset()
    labels = some_labels(dataset)
    spread = dataset.features[:30].astype(np.float64).var(axis=0).sum()
    expected = direct(LogisticRegression(C=10 / spread, max_iter=1000), dataset, labels)
    found = create("logistic-regression").fit_predict(dataset, labels, 3).probabilities
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    inches = dataclasses.replace(dataset, features=dataset.features * np.float32(25))
    found = create("logistic-regression").fit_predict(inches, labels, 3).probabilities
    np.testing.assert_allclose(found, expected, atol=5e-3)  # the solver's own tolerance


def test_self_training_is_scikit_learns_over_a_forest() -> None:
    """On all images, -1 = unlabeled; what it guessed by itself changes what it says."""
    dataset = hard_dataset()
    labels = some_labels(dataset)
    oracle = SelfTrainingClassifier(RandomForestClassifier(20, random_state=0), threshold=0.5)
    expected = oracle.fit(dataset.features, labels).predict_proba(dataset.features)
    found = create("self-training", n_trees=20, threshold=0.5).fit_predict(dataset, labels, 3).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not np.allclose(found, create("random-forest", n_trees=20).fit_predict(dataset, labels, 3).probabilities)


def test_self_training_without_unlabeled_images_is_the_forest() -> None:
    """All labeled: nothing to guess, and no warning about it."""
    dataset = hard_dataset()
    labels = some_labels(dataset, len(dataset))
    found = create("self-training").fit_predict(dataset, labels, 3).probabilities
    assert np.array_equal(found, create("random-forest").fit_predict(dataset, labels, 3).probabilities)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_labels_give_the_same_bits(name: str) -> None:
    """A prediction is a function of dataset and labels, also for a model that was fitted on others before."""
    dataset = hard_dataset()
    used, fresh = create(name), create(name)
    used.fit_predict(dataset, some_labels(dataset, 12), 4)
    again = used.fit_predict(dataset, some_labels(dataset), 3).probabilities
    tolerance = {"vote": 1e-5, "kernel-ridge": 1e-5}.get(name, 0.0)  # these start from what they solved last
    np.testing.assert_allclose(
        again, fresh.fit_predict(dataset, some_labels(dataset), 3).probabilities, atol=tolerance, rtol=0
    )
    held_out = dataset.held_out
    assert held_out is not None
    np.testing.assert_allclose(
        used.predict(held_out.features), fresh.predict(held_out.features), atol=2 * tolerance, rtol=0
    )


@pytest.mark.parametrize("name", EVERY)
def test_classes_without_labels_are_columns_of_zeros(name: str) -> None:
    """Codes 1 and 4 of 6: the others have probability 0, rows sum to 1, in float64."""
    dataset = tiny_dataset(40, n_classes=2)
    labels = np.where(some_labels(dataset, 12) == 0, 1, 4)
    labels[12:] = UNLABELED
    model = create(name)
    prediction = model.fit_predict(dataset, labels, 6)
    for probabilities in (prediction.probabilities, model.predict(dataset.features)):
        assert probabilities.shape == (40, 6)
        assert probabilities.dtype == np.float64
        assert not probabilities[:, [0, 2, 3, 5]].any()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(prediction.probabilities.argmax(axis=1), np.where(dataset.truth == 0, 1, 4))


@pytest.mark.parametrize("name", [*EVERY, "sklearn:LinearDiscriminantAnalysis"])
@pytest.mark.parametrize("n_labels", [1, 3])
def test_with_one_class_labeled_every_image_is_of_it(name: str, n_labels: int) -> None:
    """Most estimators refuse a single class; the app says that class, with certainty."""
    dataset = tiny_dataset(30)
    labels = np.where(np.arange(30) < n_labels, 2, UNLABELED)
    model = create(name)
    expected = np.tile([0, 0, 1, 0], (30, 1))
    found = model.fit_predict(dataset, labels, 4).probabilities
    if name != "vote":  # its graph model leaves images that no label reaches at the prior
        assert np.array_equal(found, expected)
        assert np.array_equal(model.predict(dataset.features), expected)
    assert (found.argmax(axis=1) == 2).all()


@pytest.mark.parametrize("name", [name for name in EVERY if name != "vote"])
def test_without_labels_every_class_is_as_likely(name: str) -> None:
    """The prior of nothing known."""
    model = create(name)
    found = model.fit_predict(tiny_dataset(9), np.full(9, UNLABELED), 4).probabilities
    assert np.array_equal(found, np.full((9, 4), 0.25))


@pytest.mark.parametrize("name", EVERY)
def test_one_label_a_class_is_enough(name: str) -> None:
    """Fewer labels than folds, neighbours or features: a prediction, and not a blind one."""
    dataset = tiny_dataset(60)
    prediction = create(name).fit_predict(dataset, some_labels(dataset, 3), 3)
    assert (prediction.probabilities.argmax(axis=1) == dataset.truth).mean() > 0.6


@pytest.mark.parametrize("n_labels", [3, 4, 7, 12])
def test_support_vectors_with_fewer_labels_than_folds(n_labels: int) -> None:
    """One label in some class: the decision values' softmax; from two on cross-validated, with as many folds.

    The most probable class is that of the highest decision value in each case.
    """
    dataset = hard_dataset()
    labels = some_labels(dataset, n_labels)
    labeled = labels != UNLABELED
    machine = SVC(C=5.0).fit(dataset.features[labeled].astype(np.float64), labels[labeled])
    decisions = machine.decision_function(dataset.features.astype(np.float64))
    found = create("svc").fit_predict(dataset, labels, 3).probabilities
    assert np.array_equal(found.argmax(axis=1), decisions.argmax(axis=1))
    if n_labels < 6:
        exponentials = np.exp(decisions)
        np.testing.assert_allclose(found, exponentials / exponentials.sum(axis=1, keepdims=True))


def test_support_vectors_stay_doubtful_where_cross_validation_finds_no_mistake() -> None:
    """No finite temperature would be best then; certainty of 0 or 1 would leave a strategy nothing to rank."""
    dataset = tiny_dataset(60, n_classes=2)
    assert dataset.truth is not None
    found = create("svc").fit_predict(dataset, some_labels(dataset, 20), 2).probabilities
    assert np.array_equal(found.argmax(axis=1), dataset.truth)
    assert found.max() < 0.99
    assert len(np.unique(found[20:, 0])) == 40


def test_two_classes_are_calibrated_as_scikit_learn_does_it() -> None:
    """One decision value an image instead of one for each class."""
    dataset = hard_dataset()
    labels = np.minimum(some_labels(dataset), 1)
    oracle = CalibratedClassifierCV(SVC(C=5.0), method="temperature", cv=5, ensemble=False)
    found = create("svc").fit_predict(dataset, labels, 2).probabilities
    np.testing.assert_allclose(found, direct(oracle, dataset, labels), atol=1e-7)


def test_a_large_pool_is_asked_about_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory depends on the chunk, the answer does not."""
    dataset = hard_dataset()
    labels = some_labels(dataset)
    whole = create("sklearn:GaussianNB").fit_predict(dataset, labels, 3).probabilities
    asked: list[int] = []

    class Watched(GaussianNB):  # type: ignore[misc]  # scikit-learn ships no types
        def predict_proba(self, X: FloatArray) -> Any:  # noqa: N803  # scikit-learn's name
            asked.append(len(X))
            return super().predict_proba(X)

    monkeypatch.setattr(classifiers, "ROWS_PER_CHUNK", 40)
    model = create("sklearn:GaussianNB")
    monkeypatch.setattr(type(model), "estimator", Watched)
    assert np.array_equal(model.fit_predict(dataset, labels, 3).probabilities, whole)
    assert asked == [40, 40, 10]
    assert model.predict(dataset.features[:0]).shape == (0, 3)


class Reckless(Classifier):
    """Notes how many threads it may use, then answers as it is told to, or raises."""

    name = "reckless"

    def __init__(self, answer: FloatArray | Exception) -> None:
        super().__init__()
        self.answer = answer
        self.most_threads = 0

    def _fit(self, features: FloatArray, codes: IntArray) -> Any:
        self.most_threads = max(pool["num_threads"] for pool in threadpool_info())
        return self

    def predict_proba(self, features: FloatArray) -> FloatArray:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        np.full((6, 3), np.nan),
        np.full((6, 3), np.inf),
        np.full((6, 3), -1.0),
        np.ones((6, 2)),
        np.ones((5, 3)),
        IndexError("index 7 is out of bounds"),
        RuntimeError(),
        MemoryError("Unable to allocate 28.8 GiB"),
    ],
    ids=["nan", "infinite", "negative", "columns", "rows", "index", "silent", "memory"],
)
def test_what_an_estimator_does_wrong_is_a_model_error(answer: FloatArray | Exception) -> None:
    """MODEL_FIT, naming the model, what happened and what to do."""
    dataset = tiny_dataset(6)
    with pytest.raises(ModelError, match=r"'reckless' cannot work .* Choose another model") as caught:
        Reckless(answer).fit_predict(dataset, some_labels(dataset), 3)
    assert caught.value.code == "MODEL_FIT"


def test_what_an_estimator_does_not_decide_gets_the_shares_of_the_labels() -> None:
    """A row of zeros is not 0 / 0."""
    dataset = tiny_dataset(6)
    labels = np.array([0, 1, 2, 0, UNLABELED, UNLABELED])
    found = Reckless(np.zeros((6, 3))).fit_predict(dataset, labels, 4).probabilities
    np.testing.assert_allclose(found, np.tile([0.5, 0.25, 0.25, 0], (6, 1)))


def test_two_threads_are_all_that_a_model_takes() -> None:
    """Numeric libraries would take every core there is; afterwards they may again."""
    dataset, model = tiny_dataset(6), Reckless(np.ones((6, 3)))
    before = threadpool_info()
    model.fit_predict(dataset, some_labels(dataset), 3)
    assert 1 <= model.most_threads <= 2
    assert threadpool_info() == before


@pytest.mark.parametrize("name", ["logistic-regression", "svc", "sklearn:GaussianNB", "kernel-ridge"])
def test_features_with_nan_are_a_model_error(name: str) -> None:
    """scikit-learn's many lines become one sentence among ours."""
    dataset = tiny_dataset(9)
    broken = dataclasses.replace(dataset, features=np.full_like(dataset.features, np.nan))
    with pytest.raises(ModelError, match="NaN") as caught:
        create(name).fit_predict(broken, some_labels(dataset), 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["logistic-regression", "svc", "knn", "random-forest", "self-training", "kernel-ridge"]
)
def test_images_that_all_look_the_same_are_no_error(name: str) -> None:
    """No spread to measure C in, no distance to weigh by: a belief all the same, the same for all."""
    dataset = tiny_dataset(9)
    flat = dataclasses.replace(dataset, features=np.zeros_like(dataset.features))
    found = create(name).fit_predict(flat, some_labels(dataset, 7), 3).probabilities
    assert np.isfinite(found).all()
    assert np.array_equal(found, np.tile(found[0], (9, 1)))


@pytest.mark.parametrize("name", EVERY)
def test_predicting_before_fitting_is_a_typed_error(name: str) -> None:
    """MODEL_NOT_FITTED, not an AttributeError."""
    with pytest.raises(ModelError) as caught:
        create(name).predict(tiny_dataset(3).features)
    assert caught.value.code == "MODEL_NOT_FITTED"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("random-forest", {"n_trees": 0}),
        ("knn", {"n_neighbors": -1}),
        ("svc", {"c": 0.0}),
        ("logistic-regression", {"c": float("nan")}),
        ("logistic-regression", {"c": float("inf")}),
        ("self-training", {"threshold": 1.0}),
        ("self-training", {"n_trees": 0}),
        ("kernel-ridge", {"penalty": 0.0}),
        ("kernel-ridge", {"gamma": float("nan")}),
        ("kernel-ridge", {"sharpness": float("inf")}),
        ("vote", {"weight": 1.5}),
        ("vote", {"opinion": -0.1}),
        ("vote", {"weight": float("nan")}),
        ("vote", {"shares": "odd"}),
    ],
)
def test_a_setting_out_of_range_is_refused_where_it_is_set(name: str, parameters: dict[str, Any]) -> None:
    """ConfigError with the model's and the parameter's name."""
    with pytest.raises(ConfigError, match=rf"^{name}\.{next(iter(parameters))} must"):
        create(name, **parameters)


def test_every_classifier_of_scikit_learn_can_be_named() -> None:
    """Each with `predict_proba`; text becomes what its constructor takes, a missing part or probability is said."""
    for name, estimator in all_estimators("classifier"):
        if not hasattr(estimator, "predict_proba"):
            with pytest.raises(ConfigError, match="gives probabilities"):
                registry.load("model", f"sklearn:{name}")
            continue
        parameters = registry.describe("model", f"sklearn:{name}")
        assert {parameter.name for parameter in parameters} == set(estimator._get_param_names())
        if any(parameter.required for parameter in parameters):
            with pytest.raises(ConfigError, match=r"needs: estimators?\."):
                create(f"sklearn:{name}")
    assert not [name for name in registry.names("model") if ":" in name]


def test_a_named_classifier_takes_its_own_parameters() -> None:
    """Text as on a command line, values as from a preset, a random state unless one is given."""
    given = {"hidden_layer_sizes": "(8, 4)", "alpha": "1e-3", "early_stopping": "true", "solver": "lbfgs"}
    model = create("sklearn:MLPClassifier", **given, max_iter=20)
    expected = {"hidden_layer_sizes": (8, 4), "alpha": 1e-3, "early_stopping": True, "solver": "lbfgs", "max_iter": 20}
    assert isinstance(model, Classifier)
    assert (expected | {"random_state": 0}).items() <= model.parameters.items()  # type: ignore[attr-defined]  # made by name
    described = {one.name: one.default for one in registry.describe("model", "sklearn:MLPClassifier")}
    assert described["random_state"] == 0
    assert described["hidden_layer_sizes"] == (100,)
    assert registry.summary("model", "sklearn:MLPClassifier").startswith("scikit-learn's MLPClassifier: ")
    with pytest.raises(ConfigError, match="has no parameter 'depth'"):
        create("sklearn:MLPClassifier", depth=3)


def test_a_solver_that_stops_early_warns_nobody() -> None:
    """How good it is shows on held-out images; other warnings are passed on (here they are errors)."""
    dataset = hard_dataset()
    create("sklearn:MLPClassifier", max_iter=2).fit_predict(dataset, some_labels(dataset), 3)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        create("sklearn:MLPClassifier", max_iter=2).fit_predict(dataset, some_labels(dataset), 3)
    assert not shown


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sklearn:gausianNB", "'gausianNB' that gives probabilities. Did you mean: GaussianNB?"),
        ("sklearn:Xyz", "Choose from: AdaBoostClassifier, "),
        ("sklearn:", "Choose from: AdaBoostClassifier, "),
        ("sklearn:*", "Choose from: AdaBoostClassifier, "),
        ("GaussianNB", "No model 'GaussianNB'. Choose from: label-spreading, "),
        ("GaussianNB", ", sklearn:NAME."),
        ("other:GaussianNB", "No model 'other:GaussianNB'."),
    ],
)
def test_an_unknown_name_lists_the_close_ones(name: str, says: str) -> None:
    """ConfigError; without a close one, all that may be chosen."""
    with pytest.raises(ConfigError) as caught:
        registry.load("model", name)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["SVC", "SGDClassifier"])
def test_an_estimator_without_probabilities_by_its_settings_is_refused(name: str) -> None:
    """Where it is made, not in the middle of labeling; with other settings it is welcome."""
    with pytest.raises(ConfigError, match="gives no probabilities with these parameters"):
        create(f"sklearn:{name}")
    dataset = hard_dataset()
    found = create("sklearn:SGDClassifier", loss="log_loss").fit_predict(dataset, some_labels(dataset), 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


def powers(probabilities: FloatArray, power: int) -> FloatArray:
    raised = probabilities**power
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.8, 1.0])
def test_a_vote_is_its_members_brought_to_one_sharpness(weight: float) -> None:
    """(2 g^3 + c^2 + k) / 4 at the default weight, evened while labels are few; members and evidence are kept."""
    dataset = hard_dataset()
    labels = some_labels(dataset)
    names = ("label-spreading", "logistic-regression", "kernel-ridge")
    vote, *members = create("vote", weight=weight), *(create(name) for name in names)
    found, *apart = (model.fit_predict(dataset, labels, 4) for model in (vote, *members))
    assert len(found.members) == 3
    for kept, alone in zip(found.members, apart, strict=True):
        assert np.array_equal(kept, alone.probabilities)

    def together(graph: FloatArray, classifier: FloatArray, kernel: FloatArray) -> FloatArray:
        return weight * powers(graph, 3) + (1 - weight) / 2 * (powers(classifier, 2) + kernel)

    factors = evening(together(*found.members), labels)
    np.testing.assert_allclose(found.probabilities, evened(together(*found.members), factors))
    assert found.evidence is not None
    assert apart[0].evidence is not None
    assert np.array_equal(found.evidence, apart[0].evidence)
    features = tiny_dataset(9, seed=5).features
    apart_here = together(*(member.predict(features) for member in members))
    np.testing.assert_allclose(vote.predict(features), evened(apart_here, factors))


def test_masses_are_brought_half_way_to_equal_with_few_labels() -> None:
    """Only of classes with labels, by no more than 2, less with every label, and not at all from 50 a class on."""
    probabilities = np.tile([0.4, 0.3, 0.2, 0.1], (40, 1))
    few = np.array([0, 1, 2, *[-1] * 37])
    factors = evening(probabilities, few)
    assert factors is not None
    np.testing.assert_allclose(factors, [*np.sqrt(0.3 / np.array([0.4, 0.3, 0.2])) ** (1 - 3 / 150), 1])
    np.testing.assert_allclose(evened(probabilities, factors).sum(axis=1), 1)
    uneven = np.tile([0.48, 0.48, 0.04, 0], (40, 1))
    capped = evening(uneven, few)
    assert capped is not None
    np.testing.assert_allclose(capped[2], 2 ** (1 - 3 / 150))
    assert evening(probabilities, np.arange(150) % 3) is None
    assert evening(probabilities, np.array([0, -1])) is None
    assert evened(probabilities, None) is probabilities


def test_a_class_with_half_of_all_mass_is_taken_to_be_large() -> None:
    """Nothing is evened then: in a pool of 99 % one class it would make of many images what they are not."""
    few = np.array([0, 1, 2, *[-1] * 37])
    assert evening(np.tile([0.49, 0.26, 0.25], (40, 1)), few) is not None
    assert evening(np.tile([0.51, 0.25, 0.24], (40, 1)), few) is None
    assert evening(np.tile([0.4, 0.2, 0.1, 0.3], (40, 1)), few) is None


def test_shares_by_labels_go_to_the_member_that_is_right() -> None:
    """The more labels there are, the further from the shares before; a share of 0 stays."""
    before = np.array([0.5, 0.25, 0.25])
    found = []
    for n in (20, 2000):
        of_codes = np.stack([np.full(n, 0.1), np.full(n, 0.9), np.full(n, 0.1)])
        found.append(likeliest_shares(of_codes, np.ones(n), before))
        assert found[-1].sum() == pytest.approx(1)
    assert 0.25 < found[0][1] < 0.4 < 0.8 < found[1][1]
    assert likeliest_shares(of_codes, np.ones(2000), np.array([1.0, 0, 0])).tolist() == [1, 0, 0]


def test_a_vote_can_find_its_shares_by_labels() -> None:
    """From 30 labels on and by the labels of the fit alone; under 30 they are the fixed ones, bit for bit."""
    dataset = hard_dataset()
    assert dataset.truth is not None
    plain, vote = create("vote"), create("vote", shares="labels")
    few, many = (np.where(np.arange(len(dataset)) < n, dataset.truth, -1) for n in (29, 60))
    fixed = [plain.fit_predict(dataset, labels, 4).probabilities.copy() for labels in (few, many)]
    assert np.array_equal(vote.fit_predict(dataset, few, 4).probabilities, fixed[0])
    found = vote.fit_predict(dataset, many, 4)
    graph, classifier, kernel = found.members
    sharp = np.stack([powers(graph, 3), powers(classifier, 2), kernel])
    assert isinstance(vote, Vote)
    shares = vote._found
    assert shares is not None
    assert not np.allclose(shares, [0.5, 0.25, 0.25], atol=1e-6)
    mixed = np.tensordot(shares, sharp, 1)
    np.testing.assert_allclose(found.probabilities, evened(mixed, evening(mixed, many)))
    assert np.array_equal(found.probabilities.argmax(axis=1), found.guesses)
    again = create("vote", shares="labels")
    np.testing.assert_allclose(again.fit_predict(dataset, many, 4).probabilities, found.probabilities, atol=1e-5)
    np.testing.assert_allclose(vote.predict(dataset.features).sum(axis=1), 1)


def test_a_networks_opinion_is_one_more_member_of_a_vote() -> None:
    """(1 - opinion) p + opinion q, for the pool and for held-out images; a class it does not know is left to others."""
    dataset = hard_dataset()
    labels, rng = some_labels(dataset), np.random.default_rng(0)
    plain, vote = create("vote"), create("vote", opinion=0.4)
    before = plain.fit_predict(dataset, labels, 3)
    found = vote.fit_predict(dataclasses.replace(dataset, opinion=opinion_of(len(dataset), rng, 2, 0, 7)), labels, 3)
    said = found.members[-1]
    assert len(found.members) == 4
    np.testing.assert_allclose(found.probabilities, 0.6 * before.probabilities + 0.4 * said)
    np.testing.assert_allclose(said[:, 1], before.probabilities[:, 1])
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert dataset.held_out is not None
    opinion = opinion_of(20, rng, 0, 1, 2)
    held_out = dataclasses.replace(dataset.held_out, opinion=opinion)
    alone = plain.predict(held_out.features)
    together = predict_held_out(vote, held_out)
    np.testing.assert_allclose(together, 0.6 * alone + 0.4 * opinion.probabilities, rtol=1e-6)
    assert np.array_equal(predict_held_out(vote, dataset.held_out), alone)


def opinion_of(n: int, rng: np.random.Generator, *codes: int) -> Opinion:
    return Opinion(rng.dirichlet(np.ones(len(codes)), n).astype(np.float32), np.array(codes))


def test_a_votes_members_are_chosen_by_name() -> None:
    """Any three models of the registry, two as in projects of earlier versions; a wrong name is told as everywhere."""
    dataset = hard_dataset()
    labels = some_labels(dataset)
    found = create("vote", graph="label-propagation", classifier="sklearn:GaussianNB").fit_predict(dataset, labels, 3)
    expected = create("sklearn:GaussianNB").fit_predict(dataset, labels, 3)
    assert np.array_equal(found.members[1], expected.probabilities)
    with pytest.raises(ConfigError, match="No model 'label-spreding'"):
        create("vote", graph="label-spreding")


def test_a_vote_of_many_classes_and_faint_rows_holds_no_nan() -> None:
    """Cubes of single-precision probabilities would be 0 in a whole row: everything is in double precision."""
    dataset = tiny_dataset(60, n_classes=2)
    labels = np.full(60, UNLABELED)
    labels[:2] = [0, 299]
    found = create("vote").fit_predict(dataset, labels, 300)
    assert found.probabilities.dtype == np.float64
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


class Member:
    """Fits like label spreading, and notes what it was asked to do."""

    asynchronous = goes_on = True
    calls: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self._model = create("label-spreading")

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        self.calls.append("fit")
        return self._model.fit_predict(dataset, labels, n_classes)

    def predict(self, features: FeatureArray) -> FloatArray:
        return self._model.predict(features)

    def follow(self, dataset: Dataset, labels: IntArray, n_classes: int) -> None:
        self.calls.append("follow")

    def warm_up(self) -> None:
        self.calls.append("warm up")

    def join(self, dataset: Dataset, features: FeatureArray) -> None:
        self.calls.append("join")


@pytest.mark.parametrize("place", ["graph", "classifier", "kernel"])
def test_a_vote_passes_on_what_its_members_can(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: whether labeling waits, replay after a restart, warm-up, the held-out set; whichever member can it."""
    monkeypatch.setitem(registry.BUILT_IN["model"], "noting", f"{__name__}:Member")
    monkeypatch.setattr(Member, "calls", [])
    dataset, vote = hard_dataset(), create("vote", **{place: "noting"})
    assert vote.asynchronous  # type: ignore[attr-defined]  # an optional ability
    assert vote.goes_on  # type: ignore[attr-defined]  # an optional ability
    vote.warm_up()  # type: ignore[attr-defined]  # an optional ability
    vote.join(dataset, dataset.features)  # type: ignore[attr-defined]  # an optional ability
    vote.follow(dataset, some_labels(dataset), 3)  # type: ignore[attr-defined]  # an optional ability
    assert Member.calls == ["warm up", "join", "follow"]


def test_a_vote_of_quick_members_is_waited_for() -> None:
    """R6: nothing is asynchronous that none of the members is."""
    assert not create("vote").asynchronous  # type: ignore[attr-defined]  # an optional ability
    alone = create("vote", graph="knn", kernel="knn")
    assert not alone.goes_on  # type: ignore[attr-defined]  # an optional ability


# ---- kernel ridge


def exact_ridge(dataset: Dataset, labels: IntArray, features: FeatureArray) -> FloatArray:
    """scikit-learn's own on one-hot targets, and the softmax of eight times its scores."""
    labeled = labels != UNLABELED
    pool = dataset.features.astype(np.float64)
    ridge = SklearnKernelRidge(alpha=0.3, kernel="rbf", gamma=0.7 / pool.var(axis=0).sum())
    ridge.fit(pool[labeled], np.eye(3)[labels[labeled]])
    return np.asarray(softmax(8 * ridge.predict(features.astype(np.float64)), axis=1))


def test_kernel_ridge_is_scikit_learns() -> None:
    """On the pool and on other images, to the single precision in which columns are kept."""
    dataset = hard_dataset()
    labels, other = some_labels(dataset), tiny_dataset(9, seed=5).features
    model = create("kernel-ridge")
    found = model.fit_predict(dataset, labels, 3).probabilities
    np.testing.assert_allclose(found, exact_ridge(dataset, labels, dataset.features), atol=1e-5)
    np.testing.assert_allclose(model.predict(other), exact_ridge(dataset, labels, other), atol=1e-5)


def test_kernel_ridge_follows_labels_added_changed_and_taken_back() -> None:
    """Only the columns of new labels are computed; the answer is that of a fresh fit to 1e-5."""
    dataset, rng, used = hard_dataset(), np.random.default_rng(0), create("kernel-ridge")
    for _ in range(12):
        labels = np.where(rng.random(90) < rng.random(), rng.integers(0, 3, 90), UNLABELED)
        labels[:3] = [0, 1, 2]
        found = used.fit_predict(dataset, labels, 3).probabilities
        np.testing.assert_allclose(found, exact_ridge(dataset, labels, dataset.features), atol=1e-5)
        outside = used.predict(dataset.held_out.features)  # type: ignore[union-attr]  # made with one
        np.testing.assert_allclose(outside, exact_ridge(dataset, labels, dataset.held_out.features), atol=1e-5)  # type: ignore[union-attr]  # made with one


def test_landmarks_bound_what_kernel_ridge_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """More labels than columns: all labels are fitted by functions of as many, whichever came first, nearly as well."""
    dataset, labels = hard_dataset(300), some_labels(hard_dataset(300), 200)
    monkeypatch.setattr(kernel_ridge, "MOST_LANDMARKS", 60)
    used, fresh = create("kernel-ridge"), create("kernel-ridge")
    for n in (30, 100, 150):
        used.fit_predict(dataset, some_labels(dataset, n), 3)
    found = used.fit_predict(dataset, labels, 3).probabilities
    np.testing.assert_allclose(found, fresh.fit_predict(dataset, labels, 3).probabilities, atol=1e-5)
    assert used._space.columns._kept.shape == (60, 300)  # type: ignore[attr-defined]  # how much is kept
    exact = exact_ridge(dataset, labels, dataset.features)
    right, exactly = ((each.argmax(axis=1) == dataset.truth)[200:].mean() for each in (found, exact))
    assert right >= exactly - 0.05


def test_images_beyond_what_is_kept_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images are given: the same answer, and no columns are kept for them."""
    dataset, model = hard_dataset(), create("kernel-ridge")
    model.fit_predict(dataset, some_labels(dataset), 3)
    whole = model.predict(dataset.features)
    monkeypatch.setattr(kernel_ridge, "MOST_CELLS", 7 * 90)  # seven images at a time
    np.testing.assert_allclose(model.predict(dataset.features), whole, atol=1e-6)


def test_a_step_followed_is_a_step_taken() -> None:
    """A restart that follows the recorded steps ends in the same bits as the fits that were recorded."""
    dataset, fitted, followed = hard_dataset(), create("kernel-ridge"), create("kernel-ridge")
    order = np.random.default_rng(1).permutation(90)
    for n in (5, 11, 40, 70):
        labels = np.full(90, UNLABELED)
        labels[order[:n]] = dataset.truth[order[:n]]  # type: ignore[index]  # made with its truth
        found = fitted.fit_predict(dataset, labels, 3).probabilities
        if n < 70:
            followed.follow(dataset, labels, 3)  # type: ignore[attr-defined]  # an optional ability
    assert np.array_equal(found, followed.fit_predict(dataset, labels, 3).probabilities)

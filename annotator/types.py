"""The values and protocols of one round: the architecture on a page.

    ImageSource ─ Encoder ─ Graph ─▶ Dataset ─ Model ─▶ Prediction ─▶ Pool ─ QueryStrategy ─▶ Choice

Numerics speak rows (order of arrival in the dataset) and class codes (order of creation, -1 = unlabeled).
Image ids and class names belong to the store and the views; `Session` and `Learner` translate. Values are frozen:
a changed value is a new value. Arrays that come from a cache are memory-mapped and read-only.

What a plug-in may have beside its protocol stands behind that protocol: counts of what a source passed over, layers,
files alone, what keeps the meaning of its images; a revision, a view, parts, a least pool, a training that resumes or
changes images, a reason and an opinion for an encoder; warm-up, held-out sets, replay and a fit in the background for a
model; reasons for a strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from annotator.per_image import RowFigures

if TYPE_CHECKING:
    from pathlib import Path

FloatArray = NDArray[np.float64]
FeatureArray = NDArray[np.float32]
"""(n_images, n_features)"""
IntArray = NDArray[np.int64]
ImageArray = NDArray[np.uint8]
"""(n_images, height, width, n_channels), n_channels 1 (grey) or 3 (RGB), upright."""
SparseMatrix = Any  # scipy ships no types: a scipy.sparse.csr_array

UNLABELED = -1


class Report(Protocol):
    """Progress out, cancel in: called often by long work; raises `Cancelled` where somebody asked to stop."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A `Report` that shows nothing and never cancels."""


@dataclass(frozen=True)
class SetAside:
    """An entry of a source that cannot be an image of the pool, and why."""

    image_id: str
    code: str
    reason: str


@runtime_checkable
class ImageSource(Protocol):
    """Ordered images with stable ids. Either `array` holds them all, or `read` gives one as the bytes of a file."""

    @property
    def ids(self) -> Sequence[str]:
        """Stable image ids, in order of arrival."""

    @property
    def array(self) -> ImageArray | None:
        """(n_images, height, width, n_channels) where the source is an array, else None."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes the source knows of; empty where it knows none. Truth codes index them."""

    @property
    def truth(self) -> IntArray | None:
        """(n_images,) class codes, -1 where unknown; None where the source knows nothing."""

    @property
    def held_out(self) -> ImageSource | None:
        """A test set: never asked about, never trained on."""

    @property
    def set_aside(self) -> Sequence[SetAside]:
        """Entries already refused while listing (unreadable, outside the root, ...)."""

    def read(self, row: int) -> bytes:
        """The bytes of image `row` as they are in its file. Raises SourceError (SRC_...)."""

    def stamp(self, row: int) -> str:
        """A cheap mark that changes when the content of image `row` may have: for a file its size, mtime and inode."""


@runtime_checkable
class CountsIgnored(Protocol):
    """A source that counts the entries that are no images: other files, what systems put beside them."""

    @property
    def n_ignored(self) -> int: ...


def n_ignored(source: ImageSource) -> int:
    """How many entries are no images; 0 where the source does not count them."""
    return source.n_ignored if isinstance(source, CountsIgnored) else 0


@runtime_checkable
class NamesLeftOut(Protocol):
    """A source that names its parts that stand for nothing here."""

    @property
    def left_out(self) -> Sequence[str]: ...


def left_out(source: ImageSource) -> tuple[str, ...]:
    """Parts of a source that stand for nothing here, by name; none where it names none."""
    return tuple(source.left_out) if isinstance(source, NamesLeftOut) else ()


@runtime_checkable
class HasLayers(Protocol):
    """A source that holds the images of some folders out."""

    @property
    def layers(self) -> Sequence[str]:
        """These folders."""


def layers(source: ImageSource) -> tuple[str, ...]:
    """The folders whose images a source holds out."""
    return tuple(source.layers) if isinstance(source, HasLayers) else ()


@dataclass(frozen=True)
class Keeps:
    """Which changes of an image leave what it shows as it is; None = nobody knows, an encoder judges by the pool."""

    flip: bool | None = None
    """Left and right exchanged: a coat stays a coat, a letter becomes none."""
    colour: bool | None = None
    """Somewhat other colours."""


@runtime_checkable
class KnowsItsImages(Protocol):
    """A source that knows which changes keep the meaning of its images."""

    @property
    def keeps(self) -> Keeps: ...


def keeps(source: ImageSource) -> Keeps:
    """What a source says of its images."""
    return source.keeps if isinstance(source, KnowsItsImages) else Keeps()


@runtime_checkable
class ReadsFiles(Protocol):
    """A source, asked of the class, whose images are files and never one array: to list them may take long."""

    array: None


def reads_files(source: type[ImageSource]) -> bool:
    """Whether the class says so."""
    return isinstance(source, ReadsFiles) and source.array is None


class FittedEncoder(Protocol):
    """images -> features, for the pool, the test set and later images alike."""

    @property
    def version(self) -> str:
        """Name, parameters and what was learned, in short: equal versions give equal features."""

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32."""

    def save(self, folder: Path) -> None:
        """Write what was learned under `folder`."""


class Encoder(Protocol):
    """What to turn images into; `fit` looks at the pool only, never at a test set."""

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedEncoder: ...

    def load(self, folder: Path) -> FittedEncoder:
        """What `FittedEncoder.save` wrote."""


@runtime_checkable
class Resumes(Protocol):
    """An encoder whose training can be taken up again where a process that died left it."""

    def fit_in(
        self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent
    ) -> FittedEncoder:
        """As `fit`, going on from what an earlier call with the same arguments left in `folder`.

        `folder` may be missing; it is the caller's to remove once the result is stored.
        """


@runtime_checkable
class ChangesImages(Protocol):
    """An encoder that is trained on changed images, and asks which changes keep their meaning."""

    def for_images(self, keeps: Keeps) -> Encoder:
        """The same encoder, with what was left open in its parameters decided by the source, where that knows."""


def suited(encoder: Encoder, keeps: Keeps) -> Encoder:
    """The encoder as it is to be trained on images of which this is known."""
    return encoder.for_images(keeps) if isinstance(encoder, ChangesImages) else encoder


@runtime_checkable
class SaysWhy(Protocol):
    """A fitted encoder that chose between several ways to see a pool, and says in a sentence why this one."""

    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Opinion:
    """What a network that was trained on a project's labels says of images."""

    probabilities: FeatureArray
    """(n_images, n_codes) float32, rows sum to 1."""
    codes: IntArray
    """(n_codes,) the class code of each column."""


@runtime_checkable
class HasOpinion(Protocol):
    """A fitted encoder that was trained on labels, and knows classes beside features."""

    def opinion(self, images: ImageArray, report: Report = silent) -> Opinion | None:
        """What it says of (n, height, width, n_channels) uint8; None where it has not been trained on labels yet."""


@runtime_checkable
class JoinsEncoders(Protocol):
    """An encoder that joins the features of others, each of which can be fitted by itself on the views it wants."""

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """By name, in the order of their features."""

    def of_fitted(self, fitted: Mapping[str, FittedEncoder]) -> JoinsFeatures:
        """These encoders, fitted, as one."""


class JoinsFeatures(FittedEncoder, Protocol):
    """A fitted encoder that can be given the features of its parts in place of images."""

    def join(self, blocks: Sequence[FeatureArray]) -> FeatureArray:
        """The features of each part, (n, n_features of the part) -> (n, n_features of all)."""


class ExtendsFeatures(FittedEncoder, Protocol):
    """A fitted encoder that can be given the features of its base."""

    def extend(self, features: FeatureArray, images: ImageArray, report: Report = silent) -> FeatureArray:
        """The base's features of these images, the same array where nothing is added: (n, n_features)."""


@runtime_checkable
class Extends(Protocol):
    """An encoder that knows more of an image than its base does, which is an encoder by itself."""

    @property
    def base(self) -> str:
        """The base's name; it has its default parameters."""

    def on(self, fitted: FittedEncoder, cache: Path) -> ExtendsFeatures:
        """As `fit`, with the base fitted already. Raises ModelError where the cache lacks what it needs."""


@runtime_checkable
class Chooses(Protocol):
    """An encoder that stands for another one, which it chooses when it has seen the pool."""

    def chosen(self, images: Callable[[], ImageArray]) -> dict[str, Any]:  # Any: JSON
        """Its parameters with the choice for (n_images, height, width, n_channels) uint8: equal for equal images.

        `images` makes them, which takes long: to be called only where nothing is chosen yet. A dataset is made and
        named by the parameters, so the choice holds for as long as the dataset does.
        """

    @property
    def chosen_encoder(self) -> tuple[str, dict[str, Any]]:  # Any: JSON
        """The name and the parameters of what it stands for, where its own parameters name the choice."""

    def standing_for(self, fitted: FittedEncoder, images: ImageArray) -> FittedEncoder:
        """As `fit` of these images, with what it stands for fitted already."""


@runtime_checkable
class TakesLong(Protocol):
    """An encoder, asked of the class, that takes minutes to train or to compute."""

    slow: bool


def is_slow(encoder: type[Encoder]) -> bool:
    """Whether the class says so."""
    return isinstance(encoder, TakesLong) and encoder.slow


@runtime_checkable
class HasRevision(Protocol):
    """An encoder, asked of the class, that counts the changes after which equal settings gave other features."""

    revision: int


def revision(encoder: type[Encoder]) -> int:
    """Part of a dataset's version; 1 where the class does not count."""
    return encoder.revision if isinstance(encoder, HasRevision) else 1


@runtime_checkable
class ReadsFile(Protocol):
    """An encoder whose features depend on a file that its parameters name."""

    def file_key(self) -> str:
        """Of the file's content; "" where none is named. Raises ModelError (MODEL_WEIGHTS) where it cannot be read."""


@dataclass(frozen=True)
class View:
    """How an encoder sees images: in what size and in how many colours."""

    side: int = 64
    """Pixels a side of the squares that files are made to fit; where no image is larger, what the import made.

    Images of an array are given in their own size.
    """
    n_channels: int = 3
    """1: in grey, whatever the images are stored in. 3: as they are stored, photos in RGB."""


@runtime_checkable
class WantsView(Protocol):
    """An encoder that says how it wants to see images; without it `View()`, which is what the import makes."""

    @property
    def view(self) -> View: ...


def view_of(encoder: Encoder) -> View:
    """The view that `fit`, and `encode` of what is fitted, are given."""
    return encoder.view if isinstance(encoder, WantsView) else View()


@runtime_checkable
class ChecksPool(Protocol):
    """An encoder that cannot be trained on every pool."""

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where `n_images` are too few."""


class Graph(Protocol):
    """Symmetric nearest-neighbour affinities of the pool."""

    @property
    def affinity(self) -> SparseMatrix:
        """(n_images, n_images) csr_array: symmetric, non-negative, zero diagonal."""

    @property
    def description(self) -> str:
        """How neighbours were found and how many of them, in a few words for people."""

    def connect(self, features: FeatureArray) -> SparseMatrix:
        """Affinities of new images to the pool by the same weights, (n_new, n_images)."""


@dataclass(frozen=True)
class HeldOut:
    """Test images with their truth; they influence nothing but the figure printed for them."""

    ids: Sequence[str]
    images: ImageArray
    features: FeatureArray
    truth: IntArray
    opinion: Opinion | None = None


@dataclass(frozen=True)
class Dataset:
    """The pool as numbers: computed once, memory-mapped, shared by every session."""

    ids: Sequence[str]
    images: ImageArray
    features: FeatureArray
    graph: Graph
    group: IntArray
    """(n_images,) the first row with the same content; two identical files are two images of one group."""
    version: str
    open_image: Callable[[int, int], Any] = field(repr=False)
    """(row, longest side in px) -> upright RGB PIL image; side 0 = full size. Raises SourceError SRC_CHANGED where the
    file is no longer the one that was imported."""
    truth: IntArray | None = None
    held_out: HeldOut | None = None
    opinion: Opinion | None = None
    """Of a network that was trained on labels, where the encoder has one: one more member of a vote."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def is_first(self) -> NDArray[np.bool_]:
        """(n_images,) whether no image before it has the same content; read-only."""
        is_first: NDArray[np.bool_] = self.group == np.arange(len(self.group))
        is_first.flags.writeable = False
        return is_first


@dataclass(frozen=True)
class Prediction:
    """What a model believes about every image of the pool."""

    probabilities: FloatArray
    """(n_images, n_classes), rows sum to 1."""
    evidence: FloatArray | None = None
    """(n_images,) how much label mass reached the row; 0 = none did, its probabilities are the class prior."""
    embedding: FeatureArray | None = None
    members: tuple[FloatArray, ...] = ()
    """The parts of a vote, each (n_images, n_classes)."""
    changed: IntArray | None = None
    """Rows that may differ from the model's answer before; None = any may."""
    figures: RowFigures = field(default=None, repr=False)  # type: ignore[assignment]  # made below where none are given
    """Figures of each row, computed once; a model that knows which rows it changed carries them on from fit to fit."""
    temperature: float = 1.0
    """What is shown is p^(1 / temperature), rows divided by their sums; batches are chosen by `probabilities`."""

    def __post_init__(self) -> None:
        if self.figures is None:
            object.__setattr__(self, "figures", RowFigures(self.probabilities))

    @property
    def guesses(self) -> IntArray:
        """(n_images,) the code of each image's likeliest class."""
        return self.figures.measured(likeliest)


def likeliest(probabilities: FloatArray) -> IntArray:
    """(n, n_classes) -> (n,) the column of each row's highest probability, the first of equals."""
    return np.asarray(probabilities.argmax(axis=1))


class Model(Protocol):
    """dataset + labels -> prediction. May reuse what it solved last; the answer is that of a fresh fit."""

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled, at least one label; `n_classes` may exceed the classes seen."""

    def predict(self, features: FeatureArray) -> FloatArray:
        """Images outside the pool, by the last fit: (n, n_features) -> (n, n_classes)."""


@runtime_checkable
class WarmsUp(Protocol):
    """A model whose first fit would wait for something that can be begun before: compiling, a worker's start."""

    def warm_up(self) -> None:
        """Begin with it in the background."""


@runtime_checkable
class JoinsHeldOut(Protocol):
    """A model that looks up held-out images before it can predict them, and can do so before the first fit."""

    def join(self, dataset: Dataset, features: FeatureArray) -> None:
        """Look up (n, n_features) of images outside the pool and keep what was found."""


@runtime_checkable
class SeesHeldOut(Protocol):
    """A model that reads more of held-out images than their features: their pixels, a network's opinion."""

    def predict_held_out(self, held_out: HeldOut) -> FloatArray:
        """Images outside the pool, by the last fit: (n, n_classes)."""


def predict_held_out(model: Model, held_out: HeldOut) -> FloatArray:
    """(n, n_classes) of held-out images by the model's last fit."""
    if isinstance(model, SeesHeldOut):
        return model.predict_held_out(held_out)
    return model.predict(held_out.features)


@runtime_checkable
class Follows(Protocol):
    """A model that can repeat a recorded fit without its prediction, which a replay after a restart does not need."""

    def follow(self, dataset: Dataset, labels: IntArray, n_classes: int) -> None:
        """The state after `fit_predict` with the same arguments."""


@runtime_checkable
class IsAsynchronous(Protocol):
    """A model that says whether labeling need not wait for `fit_predict`."""

    @property
    def asynchronous(self) -> bool: ...


def is_asynchronous(model: Model) -> bool:
    """Whether labeling need not wait for `fit_predict`."""
    return isinstance(model, IsAsynchronous) and model.asynchronous


@runtime_checkable
class GoesOn(Protocol):
    """A model that says whether an answer depends, within its tolerance, on the fits before it."""

    @property
    def goes_on(self) -> bool: ...


def goes_on(model: Model) -> bool:
    """Whether an answer depends, within the model's tolerance, on the fits before it.

    After a restart such a model is fitted once for each recorded version, so that the result is the same.
    """
    return isinstance(model, GoesOn) and model.goes_on


@runtime_checkable
class LeavesOut(Protocol):
    """A model that can say of labeled images what it would without their labels, for less than fits from scratch."""

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of the labeled rows, ascending, each without the labels of its own fold.

        `folds` (n_labeled,) counts them from 0; rows of -1 keep their labels and are not looked at. Asked after a fit
        on the same labels; later fits are as without it.
        """


@dataclass(frozen=True)
class Pool:
    """All that is known when a batch is chosen."""

    dataset: Dataset
    labels: IntArray
    """(n_images,), -1 = unlabeled; audit images count as unlabeled."""
    prediction: Prediction
    candidates: IntArray
    """Rows that may be asked about, ascending."""
    asked: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows that were asked about before, answered or not; the audit slice, which teaches nothing, is left out."""
    newest: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows that the annotator who is asked labeled in the last two rounds, by the time of the standing answer.

    The newest first, at most 200; without other people's labels, those known from the start and the audit slice.
    """


@dataclass(frozen=True)
class Reason:
    """Why an image was picked, for its card; true at the moment when it was."""

    words: str
    """A phrase in lower case, {0}, {1}, ... in the place of classes: "between {0} and {1}"."""
    classes: tuple[int, ...] = ()
    """Their codes."""


@dataclass(frozen=True)
class Choice:
    """Rows to ask about, best first, with their scores: higher = ask sooner."""

    rows: IntArray
    scores: FloatArray
    strategy: str | None = None
    """Which strategy chose, where one hands over to another; None = the one that was asked."""
    reasons: tuple[Reason, ...] = ()
    """One for each row, or none at all."""
    propensities: FloatArray | None = None
    """(n_rows,) the probability with which each row was drawn; None where nothing was drawn at random."""


class QueryStrategy(Protocol):
    """pool -> images to ask about."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """At most `batch_size` of `pool.candidates`; fewer only where there are fewer."""


@runtime_checkable
class GivesReasons(Protocol):
    """A strategy whose scores alone can be said in words: an optional ability, asked of the class.

    One whose reasons need more, classes for example, puts them into its Choice instead.
    """

    @staticmethod
    def reason(score: float) -> str:
        """Why an image of this score was picked, for its card: "stands for 340 others"."""

"""annotator run | simulate | compare | export | verify | info | fetch.

Errors are one line on stderr; bad input exits with 2, a damaged project with 1.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from annotator import __version__
from annotator.cli_compare import compare
from annotator.console import given, pairs, progress
from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.paths import default_projects, name_of

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)

Projects = Annotated[
    Path | None, Option("--projects", help="Folder that holds the projects; default: the platform's data folder.")
]

STOPPED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"annotator {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Label the images that teach the model most."""


@app.command()
def run(
    projects: Projects = None,
    root: Annotated[Path, Option(help="Folders offered in the app stay under this one.")] = Path.home(),  # noqa: B008  # typer reads it once
    port: Annotated[int, Option(min=1, max=65535, help="Port of the app on this machine.")] = 8501,
    browser: Annotated[bool, Option(help="Open the browser.")] = True,
) -> None:
    """Open the app in the browser."""
    from annotator.ui.server import serve  # streamlit: only where the app is wanted

    serve(projects=projects or default_projects(), root=root, port=port, browser=browser)


@app.command()
def simulate(
    preset: Annotated[str | None, Option(help="Start from a ready-made configuration; see `annotator info`.")] = None,
    source: Annotated[str | None, Option(help="Where images come from; see `annotator info`.")] = None,
    source_parameter: Annotated[list[str], Option(help="NAME=VALUE, repeatable, e.g. path=photos.")] = [],  # noqa: B006  # typer copies it
    full: Annotated[bool, Option("--full", help="Short for --source-parameter full=true.")] = False,
    encoder: Annotated[str | None, Option(help="Images to features.")] = None,
    encoder_parameter: Annotated[list[str], Option(help="NAME=VALUE, repeatable.")] = [],  # noqa: B006  # typer copies it
    weights: Annotated[str | None, Option(help="Short for --encoder-parameter weights=FILE.")] = None,
    model: Annotated[str | None, Option(help="Features and labels to a prediction.")] = None,
    model_parameter: Annotated[list[str], Option(help="NAME=VALUE, repeatable, e.g. alpha=0.9.")] = [],  # noqa: B006  # typer copies it
    strategy: Annotated[str | None, Option(help="Which images to ask about.")] = None,
    strategy_parameter: Annotated[list[str], Option(help="NAME=VALUE, repeatable.")] = [],  # noqa: B006  # typer copies it
    neighbors: Annotated[int | None, Option(min=1, help="Neighbours of an image in the graph.")] = None,
    initial: Annotated[
        str | None, Option(help="Labels given at the start: none, a number, first:40, or known.")
    ] = None,
    limit: Annotated[int | None, Option(min=1, help="Keep the first so many images.")] = None,
    order_seed: Annotated[int | None, Option(help="Shuffle the images first, as scikit-learn's examples do.")] = None,
    batch_size: Annotated[int | None, Option(min=1, help="Images asked a round.")] = None,
    rounds: Annotated[int | None, Option(min=0, help="Rounds to run; default: the preset's, or 20.")] = None,
    seed: Annotated[int | None, Option(help="Of every random choice.")] = None,
    audit_share: Annotated[float | None, Option(help="Share of a batch drawn at random to measure with.")] = None,
    error_rate: Annotated[float, Option(min=0.0, max=1.0, help="Share of the oracle's answers that are wrong.")] = 0.0,
    lookahead: Annotated[int, Option(min=0, max=1, help="1: choose each batch ahead, as the browser does.")] = 0,
    batch_order: Annotated[
        str | None, Option(help="as-chosen, or alike: images that look alike or share a guess side by side.")
    ] = None,
    confirm_share: Annotated[
        float | None, Option(help="Share of a batch that are neighbours of what was just labeled, to be confirmed.")
    ] = None,
    look_ms: Annotated[int | None, Option(min=0, help="The oracle's time for an image without a guess.")] = None,
    repeat_ms: Annotated[int | None, Option(min=0, help="... for the class of the image before once more.")] = None,
    confirm_ms: Annotated[int | None, Option(min=0, help="... for a guess that is right.")] = None,
    change_ms: Annotated[int | None, Option(min=0, help="... for a guess that is wrong.")] = None,
    projects: Annotated[Path | None, Option(help="Keep the project in this folder; default: thrown away.")] = None,
    json_file: Annotated[Path | None, Option("--json", help="Write config and rounds to this file.")] = None,
) -> None:
    """Run the app's own loop, answered by an oracle; one line a round.

    `person s` are the seconds that a person would have spent on all answers so far, by the times of a scripted one, and
    `points/min` the percentage points of accuracy that a minute of the newest of them brought.
    """
    from annotator.config import Config, presets
    from annotator.simulate import Pace

    chosen = _preset(preset, presets()) if preset else None
    typed: dict[str, Any] = {  # Any: values of Config's fields
        "source": source,
        "source_parameters": pairs(source_parameter) | ({"full": True} if full else {}),
        "encoder": encoder,
        "encoder_parameters": pairs(encoder_parameter) | ({"weights": weights} if weights else {}),
        "model": model,
        "model_parameters": pairs(model_parameter),
        "strategy": strategy,
        "strategy_parameters": pairs(strategy_parameter),
        "n_neighbors": neighbors,
        "initial": initial,
        "limit": limit,
        "order_seed": order_seed,
        "batch_size": batch_size,
        "seed": seed,
        "audit_share": audit_share,
        "batch_order": batch_order,
        "confirm_share": confirm_share,
        "rounds": rounds,
    }
    config = replace(chosen.config if chosen else Config(name="simulation"), **given(typed))
    pace = Pace(**given({"look": look_ms, "repeat": repeat_ms, "confirm": confirm_ms, "change": change_ms}))
    _writable(json_file)
    with _folder(projects) as folder:
        used, rows = _print_rounds(config, folder, error_rate, bool(lookahead), pace)
    if json_file is not None:
        *asked, final = rows
        settings = asdict(used) | {"error_rate": error_rate, "lookahead": lookahead}
        report = {"config": settings, "rounds": asked, "final": final}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


app.command()(compare)


@app.command()
def export(
    project: Annotated[str, Argument(help="Name or folder of a project; see `annotator info`.")],
    to: Annotated[Path, Option(help="File to write.")],
    format: Annotated[str | None, Option(help="csv, jsonl, npz or folders; default: by the file's ending.")] = None,
    predictions: Annotated[bool, Option(help="Also the model's class for every image without a label.")] = False,
    projects: Projects = None,
) -> None:
    """Write what was labeled to a file, with a manifest that counts it."""
    from annotator import registry
    from annotator.exporters.gather import write_export
    from annotator.project import Project
    from annotator.projects import find_project

    exporter = registry.create("exporter", format or _format_of(to))
    opened = Project(find_project(projects or default_projects(), project))
    with progress() as report:
        manifest = write_export(opened, exporter, to, predictions, report)
    opened.close()
    for line in _damage(manifest.provenance["damage"]):
        print(line, file=sys.stderr)
    print(f"{to}: {manifest.n_labels} labels, {manifest.n_predictions} predictions, {manifest.n_rows} rows.")
    print(f"Load it with: {exporter.load_line(str(to))}")


@app.command()
def verify(
    project: Annotated[str, Argument(help="Name or folder of a project; see `annotator info`.")],
    export: Annotated[
        list[Path], Option(help="An earlier export, or its manifest, to hold the project against; repeatable.")
    ] = [],  # noqa: B006  # typer copies it
    projects: Projects = None,
) -> None:
    """Check that a project still says what was stored in it; exit code 1 where it does not."""
    from annotator.exporters.manifests import read_provenance
    from annotator.projects import find_project

    kept = {str(path): read_provenance(path) for path in export}
    folder = find_project(projects or default_projects(), project)
    try:
        found, head = _verified(folder, kept)
    except StoreError as error:
        if error.code not in ("STORE_CORRUPT", "STORE_INCOMPLETE"):
            raise
        found, head = [str(error)], 0
    for line in _damage(found):
        print(line)
    if found:
        sys.exit(1)
    print(f"{folder}: as it was left. {head:,} events; classes, settings, questions and people agree with them.")


@app.command()
def fetch(
    name: Annotated[str, Argument(help="The data set: fashion-mnist (31 MB).")],
    base_url: Annotated[str | None, Option("--from", help="Address of its files; default: the publisher's.")] = None,
    to: Annotated[Path | None, Option(help="Folder to put them in; default: where --full looks.")] = None,
) -> None:
    """Download a data set, check it, and keep it for later."""
    from annotator.sources.download import FASHION_MNIST, FASHION_MNIST_URL, download
    from annotator.sources.fashion_mnist import fetched_folder

    if name != "fashion-mnist":
        raise ConfigError(f"No data set {name!r} to fetch. Choose from: fashion-mnist.")
    folder = to or fetched_folder()
    with progress() as report:
        download(base_url or FASHION_MNIST_URL, FASHION_MNIST, folder, report)
    print(f"{folder}: {len(FASHION_MNIST)} files, checked.")


@app.command()
def info(
    project: Annotated[str | None, Argument(help="Name or folder of a project; default: what there is.")] = None,
    projects: Projects = None,
) -> None:
    """Say which projects, presets and plug-ins there are, or how one project stands."""
    from annotator.projects import find_project

    if project is None:
        _print_overview(projects or default_projects())
    else:
        _print_project(find_project(projects or default_projects(), project))


def main() -> None:
    """The console command."""
    try:
        if app(standalone_mode=False) == STOPPED:  # typer makes a number of Ctrl-C, and returns it
            _fail("stopped", STOPPED)
    except AnnotatorError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped", STOPPED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own errors, whichever copy of click typer carries
            raise
        _fail(str(error.format_message()).replace("\n", " "))


def _fail(message: str, code: int = 2) -> None:
    print(f"annotator: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


def _preset(name: str, known: dict[str, Any]) -> Any:  # Any: Preset, imported late
    if name not in known:
        raise ConfigError(f"No preset {name!r}. Choose from: {', '.join(known)}.")
    return known[name]


@contextmanager
def _folder(projects: Path | None) -> Iterator[Path]:
    """A folder for the simulated project: kept under `projects`, else thrown away."""
    from annotator.projects import free_folder

    if projects is not None:
        yield free_folder(projects, "simulation")
        return
    with tempfile.TemporaryDirectory(prefix="annotator-") as scratch:
        yield Path(scratch) / "simulation"


def _writable(json_file: Path | None) -> None:
    """Find out before hours of work that its result could not be written."""
    if json_file is not None and json_file.is_dir():
        raise ConfigError(f"--json {json_file} is a folder; name a file in it.")
    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError(f"There is no folder {json_file.parent} for {json_file.name}; make it first.")


def _print_rounds(
    config: Any,  # Any: Config, imported late
    folder: Path,
    error_rate: float,
    lookahead: bool,
    pace: Any,  # Any: Pace, imported late
) -> tuple[Any, list[dict[str, Any]]]:  # Any: as above; JSON
    """The config as it was used, with the quick features where the pool was too small for others; the rounds."""
    from annotator.project import Project
    from annotator.simulate import play

    rows = []
    with progress() as report:
        project = Project.create(folder, config, report)
        _print_import(project)
        print(
            f"{'round':>5} {'labels':>7} {'rest %':>7} {'test %':>7} {'audit %':>15} "
            f"{'calib %':>7} {'fit ms':>8} {'ask ms':>7} {'person s':>9} {'points/min':>10}  asked"
        )
        for row in play(project, error_rate, lookahead=lookahead, pace=pace):
            rows.append(row)
            print(_row_line(row), flush=True)
        project.close()
    return project.config, rows


def _print_import(project: Any) -> None:  # Any: Project, imported late
    """What became images of the pool, and what did not, with the reasons."""
    from annotator.evaluation import dropped_labels
    from annotator.store import images

    n_images, aside = len(project.learner.dataset), project.store.read(images.records, "set aside")
    ignored = f"; ignored: {project.prepared.n_ignored:,} other" if project.prepared.n_ignored else ""
    print(f"imported {n_images:,} of {n_images + len(aside):,} images, {len(aside):,} set aside{ignored}")
    print(project.learner.dataset.graph.description)
    for record in aside:
        print(f"  {name_of(record.image_id)!r}: {record.reason}")
    dropped = dropped_labels(project.learner.dataset.truth, project.prepared.class_names, project.class_names)
    for said in filter(None, (project.notice, dropped)):
        print(said)


def _row_line(row: dict[str, Any]) -> str:  # Any: JSON
    audit = row["accuracy_audit"]
    interval = f"{100 * audit['accuracy']:.0f} ({100 * audit['low']:.0f}-{100 * audit['high']:.0f})" if audit else ""
    asked = " ".join(str(image) for image in row.get("asked_rows", [])[:6])
    cells = [
        f"{row['round'] or 'end':>5}",
        f"{row['n_labeled']:>7}",
        f"{_number(row['accuracy'], 100):>7}",
        f"{_number(row['accuracy_test'], 100):>7}",
        f"{interval:>15}",
        f"{_number(row['calibration_error'], 100):>7}",
        f"{_number(row['fit_seconds'], 1000):>8}",
        f"{_number(row.get('query_seconds'), 1000):>7}",
        f"{_number(row['seconds'], 1):>9}",
        f"{_number(row['points_per_minute'], 1):>10}",
    ]
    return " ".join(cells) + f"  {asked}"


def _number(value: float | None, scale: int) -> str:
    return "" if value is None else f"{scale * value:.1f}"


def _format_of(path: Path) -> str:
    by_ending = {".csv": "csv", ".jsonl": "jsonl", ".npz": "npz", ".zip": "folders"}
    if path.suffix not in by_ending:
        raise ConfigError(f"{path.name} does not say its format; end it in {', '.join(by_ending)} or give --format.")
    return by_ending[path.suffix]


def _verified(folder: Path, kept: dict[str, Any]) -> tuple[list[str], int]:  # Any: JSON
    """What is wrong with a project, also against these exports and those its folder records; its number of events."""
    from annotator.exporters.manifests import recorded_exports
    from annotator.projects import STORE_NAME
    from annotator.store import Store, log

    with closing(Store(folder / STORE_NAME)) as store:
        found = store.verify()
        for name, provenance in (recorded_exports(folder) | kept).items():
            found += [f"{said} (Export: {name}.)" for said in store.damage_since(provenance)]
        return found, store.read(log.head).seq


def _damage(found: Any) -> list[str]:  # Any: sentences, maybe from a manifest's JSON
    """Lines on a damaged project: what is wrong, and what to do; none where all is well."""
    from annotator.store.verify import ADVICE, NOT_AS_LEFT

    return [f"{NOT_AS_LEFT}:", *(f"  {said}" for said in found), ADVICE] if found else []


def _print_overview(projects: Path) -> None:
    from annotator import registry
    from annotator.config import broken_presets, presets
    from annotator.projects import list_projects

    print(f"annotator {__version__}\nprojects in {projects}:")
    for found in list_projects(projects):
        print(f"  {found.folder.name}: {found.error or f'{found.n_labels:,} labels of {found.n_images:,} images'}")
    print("presets:")
    for name, preset in presets().items():
        print(f"  {name}: {preset.description}")
    for said in broken_presets():
        print(f"  {said}")
    for kind in registry.BUILT_IN:
        print(f"{kind}:")
        for name in registry.names(kind):
            print(f"  {name}: {registry.summary(kind, name)}")


def _print_project(folder: Path) -> None:
    from annotator.evaluation import describe
    from annotator.project import Project

    project = Project(folder)
    print(f"{project.store.name}:", end=" ")
    _print_import(project)
    print(f"classes: {', '.join(repr(name) for name in project.class_names)}")
    print(f"model: {project.config.model} on {project.config.features}, strategy {project.config.strategy}")
    found = project.store.verify()
    print(f"store: {project.store.note}; event log {'damaged' if found else 'intact'}")
    print(*_damage(found), describe(project.learner.history) or "no model yet", sep="\n")
    project.close()

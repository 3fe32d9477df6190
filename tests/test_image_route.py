"""Images by address: who may ask for which, what is sent, and what is kept.

Longer than other files: every way to an image that is not one's own is tried.
"""

from __future__ import annotations

import io
import re
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import streamlit.config
from PIL import Image, PngImagePlugin
from starlette.applications import Starlette
from starlette.types import Message

from annotator.config import Config
from annotator.errors import ConfigError
from annotator.pictures import FULL_SIDE, Kept
from annotator.project import Project
from annotator.ui.image_route import PLACEHOLDER, Asked, signed_url, warm
from annotator.ui.server import PROJECTS, routes
from annotator.ui.shared import workspace
from tests.builders import run_to_its_end

FOLDER = "Käfer & Co"
MARK = b"<script>taken at 48.2 N, 16.4 E</script>"
ORIENTATION, TURN_RIGHT = 0x0112, 6
PHOTOS = {"changed": (700, 500), "gone": (900, 600), "large": (3000, 2000), "plain": (300, 200), "warmed": (800, 600)}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body)).convert("RGB")

    @property
    def kind(self) -> str:
        return self.headers["content-type"]

    @property
    def keeping(self) -> str:
        return self.headers["cache-control"]


def get(url: str, method: str = "GET") -> Answer:
    """Ask the app's own routes, as the server does."""
    parts = urlsplit(url)
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    run_to_its_end(Starlette(routes=routes())(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of each size above, one stored lying on its side, and a small PNG; each with something hidden in it."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, (width, height) in PHOTOS.items():
        noise = Image.fromarray(rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
        noise.resize((width, height)).save(folder / f"{name}.jpg", comment=MARK)
        with (folder / f"{name}.jpg").open("ab") as file:
            file.write(MARK)
    exif = Image.Exif()
    exif[ORIENTATION] = TURN_RIGHT
    lying = Image.new("RGB", (600, 400), (0, 0, 255))
    lying.paste((255, 0, 0), (0, 0, 300, 400))
    lying.save(folder / "turned.jpg", exif=exif)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MARK.decode())
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / "icon.png", pnginfo=text)
    return folder


@pytest.fixture(scope="module")
def project(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of those, closed: whoever asks for an image opens it."""
    projects = tmp_path_factory.mktemp("projects")
    config = Config(
        source="folder", source_parameters={"path": str(photos)}, classes=("a", "b"), encoder="pixels", n_neighbors=2
    )
    created = Project.create(projects / FOLDER, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECTS, str(projects))
        yield created
        created.close()
        workspace().close()


def url_of(project: Project, name: str, side: int) -> str:
    return signed_url(project, list(project.prepared.dataset.ids).index(name), side)


# ---- who may ask


def test_an_address_is_answered_with_its_image(project: Project) -> None:
    """As the kind of image it is, to be kept by this browser alone and for a year, and never taken for a page."""
    answer = get(url_of(project, "plain.jpg", 320))
    assert answer.status == 200
    assert answer.headers == {
        "content-type": "image/jpeg",
        "content-length": str(len(answer.body)),
        "cache-control": "private, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'",
    }
    assert answer.picture.size == (300, 200)


def test_the_address_names_what_it_shows(project: Project) -> None:
    """Folder, row, side and version stand in it, from the server's root, whatever the folder is called."""
    url = signed_url(project, 3, 320)
    version = project.prepared.dataset.version[:12]
    assert re.fullmatch(rf"/annotator/image/K%C3%A4fer%20%26%20Co/3/320\?v={version}&s=[\w-]{{43}}", url)
    assert signed_url(project, 3, 320) == url


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("/3/", "/4/"),
        ("/320?", "/321?"),
        ("/320?", "/0?"),
        ("K%C3%A4fer%20%26%20Co", "Digits"),
        ("?v=", "?v=0"),
        ("?v=", "?w="),
        ("&s=", "&s=0"),
        ("&s=", "&s=%C3%A4"),
        ("&s=", "&s=%FF"),
        ("&s=", "&t="),
    ],
)
def test_nothing_can_be_asked_for_that_was_not_signed(project: Project, part: str, other: str) -> None:
    """Another row, size, project or version than the signature's, another signature or none: refused without a word."""
    refused = get(signed_url(project, 3, 320).replace(part, other))
    assert (refused.status, refused.body, refused.keeping) == (403, b"", "no-store")


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "..%2F..%2Fetc%2Fpasswd/3/320",
        "%2e%2e/3/320",
        "..%5C..%5C/3/320",
        "C:%5C/3/320",
        "%00/3/320",
        "/K%C3%A4fer%20%26%20Co/3/320",
        "K%C3%A4fer%20%26%20Co/3/320/",
        "K%C3%A4fer%20%26%20Co/3",
        "K%C3%A4fer%20%26%20Co/03/320",
        "K%C3%A4fer%20%26%20Co/-3/320",
        "K%C3%A4fer%20%26%20Co/%D9%A3/320",
        "K%C3%A4fer%20%26%20Co/3/320.5",
        f"K%C3%A4fer%20%26%20Co/3/{10**30}",
        "",
    ],
)
def test_no_other_path_is_an_address(project: Project, path: str) -> None:
    """A path that leads elsewhere, or another way to write the same one: refused, even with a signature at hand."""
    query = urlsplit(signed_url(project, 3, 320)).query
    refused = get(f"/annotator/image/{path}?{query}")
    assert (refused.status, refused.body) == (403, b"")


def test_only_reading_is_answered(project: Project) -> None:
    """An address can be read or looked at, nothing else."""
    url = signed_url(project, 3, 320)
    assert get(url, "HEAD").headers == get(url).headers
    assert get(url, "POST").status == 405


def test_the_address_stands_below_the_path_of_the_server(project: Project) -> None:
    """With `server.baseUrlPath` both the address and what answers it have that in front."""
    plain = signed_url(project, 3, 320)
    streamlit.config.set_option("server.baseUrlPath", "/label/here/")
    try:
        url = signed_url(project, 3, 320)
    finally:
        streamlit.config.set_option("server.baseUrlPath", "")
    assert url == f"/label/here{plain}"
    assert get(url).body == get(plain).body


# ---- the key


def signature() -> str:
    return Asked("Digits", 0, 0, "1").signature


def test_the_key_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many begin at the same moment, they sign alike; the file is for its owner alone, and no draft stays."""
    monkeypatch.setenv(PROJECTS, str(tmp_path / "new" / "projects"))
    n_threads = 8
    together = threading.Barrier(n_threads)
    signatures = []

    def sign() -> None:
        together.wait()
        signatures.append(signature())

    threads = [threading.Thread(target=sign) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signatures) == n_threads
    assert len(set(signatures)) == 1
    (secret,) = (tmp_path / "new" / "projects").iterdir()
    assert secret.name == ".secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) == 32


def test_every_projects_folder_has_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has signed is worth nothing in another."""
    signatures = set()
    for name in ("here", "there"):
        monkeypatch.setenv(PROJECTS, str(tmp_path / name))
        signatures.add(signature())
    assert len(signatures) == 2


def test_a_key_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder takes no file, addresses hold as long as the process."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(PROJECTS, str(tmp_path / "file" / "projects"))
    assert signature() == signature()


def test_a_damaged_key_signs_nothing(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file would be a key that everybody knows: it is refused, and told how to get another."""
    (tmp_path / ".secret").touch()
    url = signed_url(project, 3, 320)
    monkeypatch.setenv(PROJECTS, str(tmp_path))
    with pytest.raises(ConfigError) as error:
        signature()
    assert "Delete it" in str(error.value)
    assert get(url).status == 403


# ---- what is sent


@pytest.mark.parametrize("side", [0, 150, 320, 501])
def test_photos_come_upright(project: Project, side: int) -> None:
    """A photo stored lying on its side stands, in every size: what was left is above."""
    picture = get(url_of(project, "turned.jpg", side)).picture
    longest = side or 600
    assert picture.size == (round(2 * longest / 3), longest)
    red, _, blue = picture.getpixel((picture.width // 2, picture.height // 4))
    assert red > 250
    assert blue < 5


@pytest.mark.parametrize(("side", "longest"), [(0, FULL_SIDE), (FULL_SIDE + 1, FULL_SIDE), (1000, 1000), (100, 100)])
def test_no_more_is_sent_than_a_screen_shows(project: Project, side: int, longest: int) -> None:
    """At most the side asked for, and full size ends at FULL_SIDE px."""
    picture = get(url_of(project, "large.jpg", side)).picture
    assert picture.size == (longest, round(longest / 1.5))


@pytest.mark.parametrize("side", [0, 40, 64, 320, 1000])
def test_small_images_are_sent_pixel_by_pixel(project: Project, photos: Path, side: int) -> None:
    """As PNG, and never enlarged."""
    answer = get(url_of(project, "icon.png", side))
    assert answer.kind == "image/png"
    np.testing.assert_array_equal(np.asarray(answer.picture), np.asarray(Image.open(photos / "icon.png")))


def test_the_imports_own_thumbnail_is_sent_as_it_is(project: Project) -> None:
    """Where it is what was asked for, or nearly, nothing is decoded: the bytes are those in the cache."""
    thumbnails = next(project.folder.parent.glob(".cache/images-*/thumbnails.bin")).read_bytes()
    assert get(url_of(project, "large.jpg", 320)).body in thumbnails
    assert get(url_of(project, "large.jpg", 350)).body in thumbnails
    assert get(url_of(project, "plain.jpg", 0)).body in thumbnails
    assert get(url_of(project, "large.jpg", 319)).body not in thumbnails


@pytest.mark.parametrize("name", ["large.jpg", "plain.jpg", "icon.png"])
@pytest.mark.parametrize("side", [0, 30, 320, 1000])
def test_the_files_own_bytes_are_never_sent(project: Project, photos: Path, name: str, side: int) -> None:
    """Neither whole nor what somebody hid in a comment or behind the picture's end."""
    assert MARK in (photos / name).read_bytes()
    body = get(url_of(project, name, side)).body
    assert b"script" not in body
    assert body != (photos / name).read_bytes()


def test_a_file_that_is_gone_is_grey_until_it_is_back(project: Project, photos: Path) -> None:
    """Its thumbnail is still there; full size is a placeholder, which no browser keeps."""
    url = url_of(project, "gone.jpg", 0)
    away = (photos / "gone.jpg").rename(photos / "away.txt")
    missing = get(url)
    assert get(url_of(project, "gone.jpg", 320)).picture.size == (320, 213)
    away.rename(photos / "gone.jpg")
    assert (missing.status, missing.kind, missing.keeping) == (200, "image/png", "no-store")
    assert missing.body == PLACEHOLDER
    assert get(url).picture.size == PHOTOS["gone"]


def test_a_file_that_changed_is_grey(project: Project, photos: Path) -> None:
    """Another picture under the old name is not what was labeled, even where it looks almost the same."""
    image = Image.open(photos / "changed.jpg").convert("RGB")
    image.putpixel((0, 0), (255, 0, 255))
    image.save(photos / "changed.jpg")
    answer = get(url_of(project, "changed.jpg", 0))
    assert (answer.body, answer.keeping) == (PLACEHOLDER, "no-store")


def test_what_is_not_there_is_grey(project: Project) -> None:
    """A row or a project that was there when the address was signed, and is not now."""
    for asked in (Asked(FOLDER, 1000, 320, "1"), Asked("Deleted", 0, 320, "1")):
        url = f"/annotator/image/{asked.folder}/{asked.row}/{asked.side}?v={asked.version}&s={asked.signature}"
        assert get(url).body == PLACEHOLDER


def test_the_address_of_an_earlier_version_shows_its_row(project: Project) -> None:
    """A page that is open while the encoder changes goes on, but nothing of that is kept."""
    asked = Asked(FOLDER, 3, 320, "earlier")
    answer = get(f"/annotator/image/{FOLDER}/3/320?v=earlier&s={asked.signature}")
    assert answer.body == get(signed_url(project, 3, 320)).body
    assert answer.keeping == "no-store"


def test_arrays_are_sent_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool without files: each image pixel by pixel."""
    monkeypatch.setenv(PROJECTS, str(tmp_path))
    created = Project.create(tmp_path / "Arrays", Config(limit=30, encoder="pixels", n_neighbors=3))
    for side in (0, 104):
        picture = get(signed_url(created, 7, side)).picture
        np.testing.assert_array_equal(np.asarray(picture)[:, :, 0], created.prepared.dataset.images[7][:, :, 0])
    created.close()
    workspace().close()


# ---- what is kept


def test_images_made_ahead_are_there(project: Project, photos: Path) -> None:
    """Whatever else was asked to be made ahead; the file is not looked at again."""
    rows = [list(project.prepared.dataset.ids).index(name) for name in ("changed.jpg", "warmed.jpg")]
    Image.new("RGB", PHOTOS["changed"]).save(photos / "changed.jpg")
    warm(project, [len(project.prepared.dataset), *rows], 0)
    (photos / "warmed.jpg").unlink()
    answer = get(signed_url(project, rows[1], 0))
    assert answer.picture.size == PHOTOS["warmed"]


def key(number: int) -> tuple[str, int, int]:
    return ("version", number, 0)


def test_memory_is_bounded() -> None:
    """The images used last stay, up to the limit in bytes; one that is larger than that is handed out and let go."""
    kept = Kept(limit=100)
    for number in range(20):
        assert kept.get(key(number), lambda: b"x" * 30) == b"x" * 30
        assert kept.get(key(0), lambda: b"first") == (b"x" * 30)
        assert kept.n_bytes <= 100
    assert kept.get(key(18), lambda: b"again") == b"x" * 30
    assert kept.get(key(5), lambda: b"again") == b"again"
    assert kept.get(key(99), lambda: b"y" * 101) == b"y" * 101
    assert kept.get(key(5), lambda: b"again") == b"again"


def test_a_failure_is_not_kept() -> None:
    """Asked again, it is tried again."""
    kept = Kept(limit=100)

    def fail() -> bytes:
        raise ConfigError("no")

    for _ in range(2):
        with pytest.raises(ConfigError):
            kept.get(key(0), fail)
    assert kept.get(key(0), lambda: b"yes") == b"yes"


def test_each_image_is_made_once_and_two_at_a_time() -> None:
    """However many ask, for the same one and for others."""
    kept = Kept(limit=10_000)
    counting, made, busy, most = threading.Lock(), [], [0], [0]

    def make(number: int) -> bytes:
        with counting:
            made.append(number)
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.005)  # long enough for the others to come
        with counting:
            busy[0] -= 1
        return bytes([number])

    def ask(first: int) -> None:
        for number in np.roll(range(10), first).tolist():
            assert kept.get(key(number), partial(make, number)) == bytes([number])

    threads = [threading.Thread(target=ask, args=(first % 3,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(10))
    assert most[0] <= 2

"""Images from the real server, however it was started: addresses signed here, answered there."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from annotator.config import Config
from annotator.project import Project
from annotator.ui.image_route import signed_url
from annotator.ui.server import PROJECTS
from tests.e2e.conftest import NewPerson, Server, running
from tests.e2e.test_launch import CHECKOUT, FROM_THE_CHECKOUT

ORIENTATION, TURN_RIGHT = 0x0112, 6


def get(server: Server, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """The path as it is written, however odd."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two photos and an icon: one of 20 million pixels, one stored lying on its side with its left half red."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((5000, 4000)).save(folder / "large.jpg")
    exif = Image.Exif()
    exif[ORIENTATION] = TURN_RIGHT
    lying = Image.new("RGB", (900, 600), (0, 0, 255))
    lying.paste((255, 0, 0), (0, 0, 450, 600))
    lying.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(noise).save(folder / "icon.png")
    projects = tmp_path_factory.mktemp("projects")
    config = Config(
        source="folder", source_parameters={"path": str(folder)}, classes=("a", "b"), encoder="pixels", n_neighbors=2
    )
    created = Project.create(projects / "Photos", config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECTS, str(projects))
        yield created
    created.close()


@pytest.fixture(scope="module", params=["annotator run", "streamlit run app.py"])
def served(
    request: pytest.FixtureRequest, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Nobody has looked at a page yet."""
    root = tmp_path_factory.mktemp("root")
    command = FROM_THE_CHECKOUT[request.param]
    with running(Server(project.folder.parent, root, *command, folder=CHECKOUT)) as server:
        yield server


def url_of(project: Project, name: str, side: int) -> str:
    return signed_url(project, list(project.prepared.dataset.ids).index(name), side)


@pytest.mark.parametrize(
    ("name", "side", "kind", "size"),
    [
        ("large.jpg", 320, "image/jpeg", (320, 256)),
        ("large.jpg", 1024, "image/jpeg", (1024, 819)),
        ("large.jpg", 0, "image/jpeg", (2560, 2048)),
        ("turned.jpg", 320, "image/jpeg", (213, 320)),
        ("turned.jpg", 0, "image/jpeg", (600, 900)),
        ("icon.png", 320, "image/png", (50, 40)),
    ],
)
def test_an_image_is_sent_as_asked(
    served: Server, project: Project, name: str, side: int, kind: str, size: tuple[int, int]
) -> None:
    """Upright, in the size asked for, for this browser to keep, and neither packed again nor tied to a cookie."""
    status, headers, body = get(served, url_of(project, name, side))
    assert status == 200
    assert headers["Content-Type"] == kind
    assert headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["Content-Encoding"] is None
    assert headers["Set-Cookie"] is None
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    assert picture.size == size
    if name == "turned.jpg":
        above, below = (picture.getpixel((size[0] // 2, y)) for y in (size[1] // 4, 3 * size[1] // 4))
        assert above[0] > 250 > 5 > below[0]


def test_what_was_not_signed_is_refused(served: Server, project: Project) -> None:
    """A changed row, a path that leads elsewhere: nothing is said, not even by Streamlit's own page."""
    url = url_of(project, "icon.png", 320)
    assert get(served, url)[0] == 200
    for changed in (url.replace("/0/320", "/1/320"), url[:-1], url.partition("?")[0], "/annotator/image/"):
        assert (get(served, changed)[0], get(served, changed)[2]) == (403, b"")
    for path in ("../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%5c%5chost%5cshare/0/0"):
        status, _, body = get(served, f"/annotator/image/{path}")
        assert status in (400, 403)
        assert b"root:" not in body


def test_addresses_outlive_the_server(served: Server, project: Project) -> None:
    """Killed and started again, it answers what it had signed before."""
    url = url_of(project, "turned.jpg", 500)
    before = get(served, url)[2]
    served.kill()
    served.start()
    assert get(served, url)[2] == before


def test_a_page_draws_them(served: Server, project: Project, new_person: NewPerson) -> None:
    """The browser takes them for images, and has them from then on without asking again."""
    person = new_person(served)
    person.open("start")
    url = url_of(project, "turned.jpg", 400)
    draw = """async url => {
        const image = document.body.appendChild(new Image());
        image.src = url;
        await image.decode();
        return [image.naturalWidth, image.naturalHeight];
    }"""
    assert person.page.evaluate(draw, url) == [267, 400]
    again = "async url => (await fetch(url, {cache: 'only-if-cached', mode: 'same-origin'})).status"
    assert person.page.evaluate(again, url) == 200

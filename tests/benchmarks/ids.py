"""A million image ids: our own arrays beside Arrow's, each in a process of its own.

    python -m tests.benchmarks.ids

docs/decisions.md has what came out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

N_IMAGES = 1_000_000
N_ASKED = 20_000
N_SEARCHED = 20
"""Each goes through all of Arrow's ids."""


def id_of(row: int) -> str:
    return f"photos/{row % 997:03d}/IMG_{row:07d}.jpg"


def write(folder: Path) -> None:
    import pyarrow as pa

    from annotator.ids import StoredIds

    StoredIds.from_ids(map(id_of, range(N_IMAGES))).save(folder / "ids")
    table = pa.table({"id": pa.array((id_of(row).encode() for row in range(N_IMAGES)), type=pa.binary())})
    with pa.OSFile(str(folder / "ids.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
        stream.write_table(table)


def ours(folder: Path) -> tuple[Callable[[int], str], Callable[[str], int]]:
    from annotator.ids import StoredIds

    ids = StoredIds.load(folder / "ids")
    return ids.__getitem__, ids.index


def arrow(folder: Path) -> tuple[Callable[[int], str], Callable[[str], int]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.ipc.open_file(pa.memory_map(str(folder / "ids.arrow"))).read_all()["id"].combine_chunks()
    return lambda row: ids[row].as_py().decode(), lambda image_id: pc.index(ids, image_id.encode()).as_py()


def measure(name: str, folder: Path) -> None:
    before = megabytes()
    seconds, (id_in, row_of) = timed(lambda: {"ours": ours, "arrow": arrow}[name](folder))
    grown = megabytes() - before
    rows = [row * 7919 % N_IMAGES for row in range(N_ASKED)]
    by_row, found = timed(lambda: [id_in(row) for row in rows])
    by_id, again = timed(lambda: [row_of(image_id) for image_id in found[:N_SEARCHED]])
    assert again == rows[:N_SEARCHED]
    print(
        f"{name:6} imported and opened in {seconds * 1e3:.0f} ms, {grown:+.0f} MB; "
        f"row -> id {by_row / N_ASKED * 1e6:.1f} us, id -> row {by_id / N_SEARCHED * 1e6:,.1f} us"
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for name in ("ours", "arrow", "ours", "arrow"):
            subprocess.run([sys.executable, "-m", "tests.benchmarks.ids", name, folder], check=True)


if __name__ == "__main__":
    main()

"""Two commands that want the same data set: one brings it, the other waits and says for what."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml
from support.downloads import serving
from support.miniatures import TREES, medmnist

from robustbench_med.data.cards import CARDS
from robustbench_med.owners import me
from robustbench_med.owners.lock import Lock

DATA = [sys.executable, "-m", "robustbench_med.cli", "data"]


def started(*words: object) -> subprocess.Popen[str]:
    command = [*DATA, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_it_says(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return line
    raise AssertionError(said)


def test_two_fetches_of_a_file_download_it_once(home: Path, tmp_path: Path) -> None:
    medmnist(tmp_path, "retinamnist")
    body = (tmp_path / "retinamnist.npz").read_bytes()
    with serving(body) as server:
        file = {"url": server.url, "md5": hashlib.md5(body).hexdigest()}
        given = yaml.safe_load((CARDS / "retinamnist.yaml").read_text())
        given["reader"]["files"] = dict.fromkeys((28, 64, 128, 224), file)
        mine = tmp_path / "mine.yaml"
        mine.write_text(yaml.safe_dump(given))
        server.open.clear()
        first = started("fetch", mine)
        until_it_says(first, "download")
        second = started("fetch", mine)
        until_it_says(second, "waiting for")
        server.open.set()
        paths = [process.communicate()[0].strip() for process in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0]
        assert len(server.requests) == 1
    assert paths[0] == paths[1]
    assert Path(paths[0]).read_bytes() == body


def test_an_import_waits_for_another_one_and_says_so(home: Path, tmp_path: Path) -> None:
    tree, root = tmp_path / "tree", tmp_path / "root"
    tree.mkdir()
    root.mkdir()
    TREES["busi"](tree)
    with zipfile.ZipFile(tmp_path / "busi.zip", "w") as target:
        for path in tree.rglob("*.png"):
            target.write(path, path.relative_to(tree))
    lock = Lock(root / ".busi.lock")
    assert lock.take()
    other = started("import", "busi", tmp_path / "busi.zip", "--data-root", root)
    assert str(me()) in until_it_says(other, "waiting for the import of busi")
    lock.release()
    assert other.communicate()[0].strip() == str(root / "busi")
    assert other.returncode == 0

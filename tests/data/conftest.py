"""Small data sets as files and on localhost."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from sugarsearch.data.archives import ARCHIVES, Archive


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where every data set of a test lies: never in the home of who runs the tests."""
    place = tmp_path / "root"
    monkeypatch.setenv("SUGARSEARCH_DATA", str(place))
    return place


def pixels(count: int, size: int = 8, seed: int = 0) -> np.ndarray:
    """Random uint8 images [count, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _write_classes(folder: Path, counts: Mapping[str, int], size: int = 8, seed: int = 0) -> Path:
    for index, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(pixels(count, size, seed + index)):
            Image.fromarray(image).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture
def write_classes() -> Callable[..., Path]:
    """(folder, {class: count}, size=8, seed=0): writes PNG images into a folder for each class, returns `folder`."""
    return _write_classes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with train/ and test/ of two classes, cat and dog."""
    _write_classes(tmp_path / "tree" / "train", {"cat": 12, "dog": 8})
    _write_classes(tmp_path / "tree" / "test", {"cat": 3, "dog": 4}, seed=10)
    return tmp_path / "tree"


@dataclass
class Server:
    """Files by path on localhost; `announced` overrides a file's Content-Length."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> tuple[str, str]:
        """Serve `content`; returns its address and md5."""
        self.files[path] = content
        return self.url + path, md5(content)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.requests.append(self.path)
            if self.path not in here.files:
                self.send_error(404)
                return
            content = here.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(here.announced.get(self.path, len(content))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        here = Server(f"http://127.0.0.1:{listener.server_port}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield here
        listener.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def pack() -> Callable[[str, Mapping[str, bytes]], bytes]:
    """(kind, {path: content}): the bytes of a "zip" or "tar" file."""
    return lambda kind, files: {"zip": _zip, "tar": _tar}[kind](files)


def _cifar_files(folder: str, batches: Mapping[str, int], key: str, classes: int) -> dict[str, bytes]:
    """The files of a CIFAR archive with so many images in each batch, in its own format."""
    files = {}
    for seed, (name, count) in enumerate(batches.items()):
        data = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
        files[f"{folder}/{name}"] = pickle.dumps({"data": data, key: [n % classes for n in range(count)]})
    return files


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(1, 64, seed)[0]).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def tiny_files() -> dict[str, bytes]:
    """Tiny-ImageNet's layout with two classes; val/ lists its images out of order, test/ has no labels."""
    base, files = "tiny-imagenet-200", {}
    for c, name in enumerate(("n01", "n02")):
        for i in range(6):
            files[f"{base}/train/{name}/images/{name}_{i}.JPEG"] = jpeg(10 * c + i)
    lines = []
    for i, name in enumerate(("n02", "n01", "n02", "n01")):
        files[f"{base}/val/images/val_{i}.JPEG"] = jpeg(100 + i)
        lines.append(f"val_{i}.JPEG\t{name}\t0\t0\t63\t63\n")
    files[f"{base}/val/val_annotations.txt"] = "".join(lines).encode()
    files[f"{base}/test/images/test_0.JPEG"] = jpeg(200)
    return files


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], Archive]:
    """Put an archive's bytes on localhost in the place of the published one."""

    def put(name: str, content: bytes) -> Archive:
        real = ARCHIVES[name]
        fake = Archive(*server.put(f"/{real.url.rpartition('/')[2]}", content), real.convert)
        monkeypatch.setitem(ARCHIVES, name, fake)
        return fake

    return put


@pytest.fixture
def small_cifar(
    publish: Callable[[str, bytes], Archive], monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, bytes]]:
    """CIFAR-10 and CIFAR-100 on localhost with few images; torchvision's checksums follow. Returns their files."""
    ten = _cifar_files(
        "cifar-10-batches-py", {f"data_batch_{n}": 20 for n in range(1, 6)} | {"test_batch": 20}, "labels", 10
    )
    hundred = _cifar_files("cifar-100-python", {"train": 300, "test": 100}, "fine_labels", 100)
    ten["cifar-10-batches-py/batches.meta"] = pickle.dumps({"label_names": [f"class{n}" for n in range(10)]})
    hundred["cifar-100-python/meta"] = pickle.dumps({"fine_label_names": [f"fine{n:02d}" for n in range(100)]})
    for name, files in (("CIFAR10", ten), ("CIFAR100", hundred)):
        reader = getattr(torchvision.datasets, name)
        sums = {path.rpartition("/")[2]: md5(content) for path, content in files.items()}
        for listed in ("train_list", "test_list"):
            monkeypatch.setattr(reader, listed, [[file, sums[file]] for file, _ in getattr(reader, listed)])
        monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": sums[reader.meta["filename"]]})
        publish(name.lower(), _tar(files))
    return {"cifar10": ten, "cifar100": hundred}

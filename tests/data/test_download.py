"""Downloads from localhost: whole and right, or refused with nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sugarsearch.data import download
from sugarsearch.data.download import fetch
from sugarsearch.errors import DataError

CONTENT = bytes(range(256)) * 5000  # larger than one piece of the copy
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def refused(url: str, target: Path, reason: str, md5: str = MD5) -> DataError:
    """Fetch must fail for `reason`, and leave no file."""
    with pytest.raises(DataError, match=reason) as caught:
        fetch(url, md5, target)
    assert caught.value.path == url
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return caught.value


def test_fetched_once(server, target: Path) -> None:
    url, md5 = server.put("/file.bin", CONTENT)
    assert md5 == MD5
    for _ in range(2):
        assert fetch(url, MD5, target) == target
    assert target.read_bytes() == CONTENT
    assert server.requests == ["/file.bin"]
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_file_put_there_by_hand_is_used(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/never", MD5, target) == target


def test_a_wrong_file_already_there_is_fetched_anew(server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT[:100])
    url, _ = server.put("/file.bin", CONTENT)
    assert fetch(url, MD5, target).read_bytes() == CONTENT


def test_cut_short(server, target: Path) -> None:
    url, _ = server.put("/file.bin", CONTENT[:700_000])
    server.announced["/file.bin"] = len(CONTENT)
    error = refused(url, target, "ended after 700000 of 1280000 bytes")
    assert error.remedy == "Run the same command again."


def test_wrong_checksum(server, target: Path) -> None:
    url, found = server.put("/file.bin", CONTENT[::-1])
    assert str(target) in refused(url, target, f"has md5 {found} instead of {MD5}").remedy


def test_not_found(server, target: Path) -> None:
    refused(f"{server.url}/file.bin", target, "cannot be downloaded .*404")


def test_offline(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    error = refused(url, target, "cannot be downloaded .*refused")
    assert f"put the file at {target} yourself" in error.remedy


def test_a_server_that_says_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin", target, "cannot be downloaded .*timed out")


Talk = Callable[[socket.socket], object]


@pytest.fixture
def server_that() -> Iterator[Callable[[Talk], str]]:
    """(talk): the address of a server that hears a request and then does `talk` with the connection."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(listener: socket.socket, talk: Talk) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # The other side may have had enough before all was said.
            with connection, contextlib.suppress(ConnectionError):
                connection.settimeout(10)
                connection.recv(1 << 16)
                talk(connection)

    def start(talk: Talk) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, talk)))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/file.bin"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def head(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()


LENGTH = f"Content-Length: {len(CONTENT)}"


def test_a_connection_that_breaks_midway(server_that, target: Path) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head(LENGTH) + CONTENT[:300_000])
        # Closed with a reset instead of an end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # What the reset overtakes is lost, so either the reset is seen or too few bytes are.
    refused(server_that(talk), target, "cannot be downloaded .*reset|ended after")


def test_a_server_that_stops_midway(server_that, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(head(LENGTH) + CONTENT[:300_000])
        over.wait(20)

    try:
        refused(server_that(talk), target, "cannot be downloaded .*timed out")
    finally:
        over.set()


def test_a_slow_server_that_goes_on_is_waited_for(server_that, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    pause = threading.Event()
    content = CONTENT[:12]

    def talk(connection: socket.socket) -> None:
        connection.sendall(head(f"Content-Length: {len(content)}"))
        for byte in content:  # 1.2 s in all, more than twice the limit
            pause.wait(0.1)
            connection.sendall(bytes([byte]))

    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert fetch(server_that(talk), md5, target).read_bytes() == content


def test_a_server_without_an_end(server_that, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST_DOWNLOAD", 5 << 20)

    def talk(connection: socket.socket) -> None:
        connection.sendall(head())
        while True:
            connection.sendall(bytes(1 << 20))

    refused(server_that(talk), target, "sends more than 5,242,880 bytes")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (head("Content-Length: 1000") + CONTENT, "has md5"),
        (head("Content-Length: 99999999999999999999999") + CONTENT, "ended after 1280000 of 9999"),
        (head("Transfer-Encoding: chunked") + b"1000\r\nshort", "cannot be downloaded .*IncompleteRead"),
        (head("Transfer-Encoding: chunked") + b"xyz\r\n", "cannot be downloaded"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be downloaded .*SSH"),
        (b"", "cannot be downloaded .*closed connection"),
        (head(*["X: y"] * 200) + CONTENT, "cannot be downloaded .*headers"),
        (head("X: " + "y" * 100_000) + CONTENT, "cannot be downloaded .*(more than|reset)"),
        (head(), "has md5"),
    ],
)
def test_a_server_that_lies_or_talks_nonsense(server_that, target: Path, reply: bytes, reason: str) -> None:
    refused(server_that(lambda connection: connection.sendall(reply)), target, reason)


@pytest.mark.parametrize("length", ["-5", "many", "1e3"])
def test_a_length_that_is_no_number_is_not_believed(server_that, target: Path, length: str) -> None:
    reply = head(f"Content-Length: {length}") + CONTENT
    url = server_that(lambda connection: connection.sendall(reply))
    assert fetch(url, MD5, target).read_bytes() == CONTENT


@pytest.mark.parametrize("code", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_without_end(server_that, target: Path, code: str) -> None:
    reply = f"HTTP/1.1 {code}\r\nLocation: /file.bin\r\nContent-Length: 0\r\n\r\n".encode()
    error = refused(server_that(lambda connection: connection.sendall(reply)), target, "infinite loop")
    assert "\n" not in str(error)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "nonsense://x", "http://" + "x" * 300])
def test_a_redirect_to_nowhere(server_that, target: Path, place: str) -> None:
    reply = f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
    refused(server_that(lambda connection: connection.sendall(reply)), target, "cannot be downloaded")


@pytest.mark.parametrize("code", ["403 Forbidden", "404 Not Found", "500 Oops", "503 Busy"])
def test_an_answer_that_is_an_error(server_that, target: Path, code: str) -> None:
    reply = f"HTTP/1.1 {code}\r\nContent-Length: 4\r\n\r\nnope".encode()
    refused(server_that(lambda connection: connection.sendall(reply)), target, f"cannot be downloaded .*{code[:3]}")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "http://127.0.0.1:999999", "http://[::", "::::", "http://a b"])
def test_a_proxy_that_is_nonsense(target: Path, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    assert "proxy settings" in refused("http://192.0.2.1/file.bin", target, "cannot be downloaded").remedy


def test_a_full_disk_is_not_called_a_fault_of_the_network(server, target: Path) -> None:
    url, md5 = server.put("/file.bin", CONTENT)
    code = f"""
from pathlib import Path
from sugarsearch.data.download import fetch
from sugarsearch.errors import DataError
try:
    fetch({url!r}, {md5!r}, Path({str(target)!r}))
except DataError as error:
    print(error)
"""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, check=True)
    assert done.stdout.startswith(f"{target}: cannot be written (File too large). Free the space")
    assert list(target.parent.iterdir()) == []


def test_what_a_killed_process_left_is_written_over(server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT * 2)
    url, md5 = server.put("/file.bin", CONTENT)
    assert fetch(url, md5, target).read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]

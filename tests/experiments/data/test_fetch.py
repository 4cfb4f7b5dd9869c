"""Fetching against a server on this machine that can be told to misbehave."""

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock
import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data import fetch as fetching
from protcli.experiments.data.fetch import fetch_data
from protcli.experiments.pages import Progress

FILES = {
    "casp7/training_30": np.random.default_rng(0).bytes(300_000),
    "casp7/validation": b"[ID]\n10#1ABC_1_A\n",
    "casp7/deeper/testing": b"",
}


def tar_gz(entries: dict | list) -> bytes:
    """Of names and contents, or `TarInfo` in place of contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            info, data = (content, b"") if isinstance(content, tarfile.TarInfo) else (tarfile.TarInfo(name), content)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = tar_gz(FILES)


class Server(ThreadingHTTPServer):
    """Serves one file at every path.

    Attributes:
        data, etag, modified: of the file; a header that is None is not sent.
        ranges: whether Range is known.
        heeds_if_range: whether If-Range is.
        sized: whether Content-Length is sent.
        drops: bytes after which the connection of each of the next requests is cut.
        answers: status codes of the next requests, before any 200.
        requests: path and headers of each.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.etag, self.modified = ARCHIVE, '"one"', "Mon, 01 Jan 2024 00:00:00 GMT"
        self.ranges = self.heeds_if_range = self.sized = True
        self.drops: list[int] = []
        self.answers: list[int] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/proteinnet/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, dict(self.headers)))
        if server.answers:
            self.send_error(server.answers.pop(0))
            return
        start, data = 0, server.data
        same = not server.heeds_if_range or self.headers.get("If-Range") in (server.etag, server.modified)
        if asked and server.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        for name, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(name, value)
        if server.sized:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        self.wfile.write(body[: server.drops.pop(0)] if server.drops else body)
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "BACK_OFF", (0.0, 0.0, 0.0))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path) -> Callable[..., list[Progress]]:
    return lambda name="casp7", **keywords: list(fetch_data(name, tmp_path, base_url=server.url, **keywords))


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder.parent)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_fetch_from_beginning_to_end(server, fetch, tmp_path):
    progress = fetch()
    assert (unpacked(tmp_path / "casp7"), visible(tmp_path)) == (FILES, {"casp7", "casp7.json"})
    record = json.loads((tmp_path / "casp7.json").read_text())
    assert record.pop("date").endswith("GMT")
    assert record == {
        "url": f"{server.url}human_readable/casp7.tar.gz",
        "bytes": len(ARCHIVE),
        "sha256": hashlib.sha256(ARCHIVE).hexdigest(),
        "etag": '"one"',
        "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    }
    assert list(dict.fromkeys(p.label for p in progress)) == ["download", "digest", "unpack"]
    for phase in ("download", "digest", "unpack"):
        done = [p.done for p in progress if p.label == phase]
        assert (done, done[-1]) == (sorted(done), len(ARCHIVE))
    assert {p.total for p in progress} == {len(ARCHIVE)}
    assert len([p for p in progress if p.label == "download"]) > 2


def test_what_is_there_is_not_fetched_again(server, fetch, tmp_path):
    fetch(layout="tfrecord")
    assert fetch(layout="tfrecord") == [Progress("present", len(ARCHIVE), len(ARCHIVE), "bytes")]
    assert [path for path, _ in server.requests] == ["/proteinnet/tfrecords/casp7.tar.gz"]
    with pytest.raises(ProtcliError, match=r"casp7 exists and came from http.*tfrecords.*: move it away"):
        fetch()
    (tmp_path / "casp7.json").unlink()
    with pytest.raises(ProtcliError, match="casp7 exists and was not created by a fetch"):
        fetch()


@pytest.mark.parametrize("validator", ["etag", "modified", "weak etag"])
def test_connection_that_drops_is_resumed(server, fetch, tmp_path, validator):
    """A weak etag does not name a version."""
    server.etag = {"etag": '"one"', "modified": None, "weak etag": 'W/"one"'}[validator]
    server.modified = None if validator == "etag" else server.modified
    server.drops = [100_000, 70_000]
    fetch()
    assert unpacked(tmp_path / "casp7") == FILES
    ranges = [(headers.get("Range"), headers.get("If-Range")) for _, headers in server.requests]
    value = '"one"' if validator == "etag" else server.modified
    assert ranges == [(None, None), ("bytes=100000-", value), ("bytes=170000-", value)]


def test_fetch_given_up_keeps_its_part_and_the_next_one_goes_on(server, fetch, tmp_path):
    server.drops = [100_000, 0, 0, 0, 0, 0]
    with pytest.raises(ProtcliError, match=r"could not be fetched .*100,000 bytes are kept in .*casp7.tar.gz.part"):
        fetch()
    assert (tmp_path / "casp7.tar.gz.part").read_bytes() == ARCHIVE[:100_000]
    assert not (tmp_path / "casp7").exists()
    server.drops, server.requests = [], []
    progress = fetch()
    assert progress[0] == Progress("download", 100_000, len(ARCHIVE), "bytes")
    assert [headers["Range"] for _, headers in server.requests] == ["bytes=100000-"]
    assert unpacked(tmp_path / "casp7") == FILES


@pytest.mark.parametrize(("sized", "until"), [(True, "download"), (True, "digest"), (False, "digest")])
def test_fetch_stopped_by_its_user_goes_on(server, fetch, tmp_path, sized, until):
    """What is complete is not fetched again; where the server told no length, it says that nothing is left (416)."""
    server.sized = sized
    progress = fetch_data("casp7", tmp_path, base_url=server.url)
    while (step := next(progress)).label != until or (step.done == 0 and until == "download"):
        pass
    progress.close()
    kept = (tmp_path / "casp7.tar.gz.part").read_bytes()
    assert kept == ARCHIVE[: len(kept)] != b""
    server.requests = []
    again = fetch()
    if until == "digest":
        assert kept == ARCHIVE
        assert "download" not in {p.label for p in again}
    assert [headers["Range"] for _, headers in server.requests] == (
        [] if len(kept) == len(ARCHIVE) and sized else [f"bytes={len(kept)}-"]
    )
    assert unpacked(tmp_path / "casp7") == FILES


@pytest.mark.parametrize("fault", ["no ranges", "no validator"])
def test_server_that_cannot_resume_starts_over(server, fetch, tmp_path, fault):
    server.ranges = fault != "no ranges"
    if fault == "no validator":
        server.etag = server.modified = None
    server.drops = [100_000]
    fetch()
    assert (unpacked(tmp_path / "casp7"), len(server.requests)) == (FILES, 2)


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size", ["longer", "shorter than the part"])
def test_file_that_changed_on_the_server_starts_over(server, fetch, tmp_path, heeds_if_range, size):
    server.drops = [100_000, 0, 0, 0, 0]
    with pytest.raises(ProtcliError, match="could not be fetched"):
        fetch()
    changed = {"casp7/training_30": b"other"} | ({"casp7/more": FILES["casp7/training_30"]} if size == "longer" else {})
    server.data, server.etag, server.heeds_if_range = tar_gz(changed), '"two"', heeds_if_range
    server.modified, server.drops = "Tue, 02 Jan 2024 00:00:00 GMT", []
    fetch()
    assert unpacked(tmp_path / "casp7") == changed
    assert json.loads((tmp_path / "casp7.json").read_text())["etag"] == '"two"'


def test_failures_of_a_server(server, fetch, tmp_path):
    """Those that pass are tried again, a missing file is not."""
    server.answers = [404]
    with pytest.raises(ProtcliError, match=r"casp7.tar.gz cannot be fetched: the server answered 404 Not Found"):
        fetch()
    assert (len(server.requests), visible(tmp_path)) == (1, set())
    server.answers = [503] * 4
    with pytest.raises(ProtcliError, match=r"casp7.tar.gz could not be fetched \(the server answered 503") as caught:
        fetch()
    assert ("kept" in str(caught.value), len(server.requests)) == (False, 1 + 4)
    server.answers = [503, 429, 500]
    fetch()
    assert len(server.requests) == 1 + 4 + 4
    server.shutdown()
    server.server_close()
    with pytest.raises(ProtcliError, match="refused"):
        list(fetch_data("casp8", tmp_path, base_url=server.url))


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"name": "casp6"}, "release 'casp6': choose one of casp7, casp8, casp9, casp10, casp11, casp12"),
        ({"name": "../casp7"}, "unknown ProteinNet release"),
        ({"name": "casp7", "layout": "csv"}, "unknown layout 'csv': choose one of text, tfrecord"),
        ({"name": "casp7", "base_url": "file:///etc/"}, "is not a web address"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_before_anything_is_done(tmp_path, keywords, sentence):
    with pytest.raises(ProtcliError, match=re.escape(sentence)):
        fetch_data(out=tmp_path / "new", **keywords)
    assert not (tmp_path / "new").exists()


def test_archive_other_than_the_recorded_one_is_refused(server, fetch, tmp_path):
    fetch()
    shutil.rmtree(tmp_path / "casp7")
    fetch()  # the same again
    (tmp_path / "casp7").rename(tmp_path / "old")
    server.data, server.etag = tar_gz({"casp7/training_30": b"other"}), '"two"'
    with pytest.raises(ProtcliError, match=r"has changed since .*sha256 is .*casp7.json has .*delete that file"):
        fetch()
    assert not (tmp_path / "casp7").exists()
    (tmp_path / "casp7.json").unlink()
    assert "download" not in {p.label for p in fetch()}
    assert unpacked(tmp_path / "casp7") == {"casp7/training_30": b"other"}


def test_another_fetch_and_a_folder_that_cannot_be_made(server, fetch, tmp_path):
    with filelock.FileLock(tmp_path / ".casp7.lock"), pytest.raises(ProtcliError, match="another fetch of casp7"):
        fetch()
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtcliError, match=r"cannot write .*file"):
        list(fetch_data("casp7", tmp_path / "file" / "out", base_url=server.url))


def test_archive_without_a_folder_of_its_own_where_staging_was_left(server, fetch, tmp_path):
    (tmp_path / ".casp7.unpacking").mkdir()
    (tmp_path / ".casp7.unpacking" / "half").write_text("x")
    server.data = tar_gz({"./training_30": b"a", "validation": b"b"})
    fetch()
    assert unpacked(tmp_path / "casp7") == {"casp7/training_30": b"a", "casp7/validation": b"b"}
    assert visible(tmp_path) == {"casp7", "casp7.json"}


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MALICIOUS = {
    "parent": {"casp7/../../escaped": b"x"},
    "bare parent": {"../escaped": b"x"},
    "absolute": {"/tmp/escaped": b"x"},
    "backslash": {"casp7\\..\\..\\escaped": b"x"},
    "symbolic link": {"casp7/a": link("casp7/a", "../..", tarfile.SYMTYPE), "casp7/a/escaped": b"x"},
    "link inside": {"casp7/a": link("casp7/a", "b", tarfile.SYMTYPE)},
    "hard link": {"casp7/a": link("casp7/a", "/etc/passwd", tarfile.LNKTYPE)},
    "device": {"casp7/a": link("casp7/a", "", tarfile.CHRTYPE)},
    "pipe": {"casp7/a": link("casp7/a", "", tarfile.FIFOTYPE)},
    "empty": {},
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_archive_is_refused_whole(server, fetch, tmp_path, name):
    server.data = tar_gz({"casp7/good": b"good"} | MALICIOUS[name] if name != "empty" else {})
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    with pytest.raises(ProtcliError, match=r"casp7.tar.gz.part was refused \(.*\) and deleted; nothing was unpacked"):
        fetch()
    assert visible(tmp_path) == set()
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("casp7/a", b"x"), ("casp7/a", b"x")], "'casp7/a' occurs twice"),
        ([("casp7/a", b"x"), ("casp7/a/b", b"x")], "'casp7/a/b' occurs twice, or is a folder and a file"),
        ([("casp7/zeros", bytes(8 << 20))], "unpacks to more than 50 times its size"),
    ],
    ids=["twice", "folder and file", "bomb"],
)
def test_bombs_and_names_that_clash_are_refused(server, fetch, tmp_path, monkeypatch, entries, said):
    monkeypatch.setattr(fetching, "LEAST_LIMIT", 1 << 20)
    server.data = tar_gz(entries)
    with pytest.raises(ProtcliError, match=said):
        fetch()
    assert not (tmp_path / "casp7").exists()


@pytest.mark.parametrize("text", [
    "[]", "1", '{"url', "[" * 100_000, '{"url": 5}', '{"sha256": ["a"]}', '{"bytes": "many"}', '{"date": {}}',
])  # fmt: skip
def test_a_record_that_no_fetch_wrote(server, fetch, tmp_path, text):
    (tmp_path / "casp7.json").write_text(text)
    with pytest.raises(ProtcliError, match=r"casp7\.json is not the JSON that a fetch writes .*: delete it"):
        fetch()


@pytest.mark.parametrize("damage", ["no gzip", "cut off", "a bit", "no tar"])
def test_damaged_archive_is_refused_and_fetched_anew(server, fetch, tmp_path, damage):
    middle = len(ARCHIVE) // 2
    server.data = {
        "no gzip": b"<html>moved</html>",
        "cut off": ARCHIVE[:middle],
        "a bit": ARCHIVE[:middle] + bytes([ARCHIVE[middle] ^ 1]) + ARCHIVE[middle + 1 :],
        "no tar": gzip.compress(b"[ID]\n" * 1000),
    }[damage]
    with pytest.raises(ProtcliError, match="was refused"):
        fetch()
    assert visible(tmp_path) == set()  # no digest stays that a whole archive would be held against
    server.data, server.etag = ARCHIVE, '"two"'
    fetch()
    assert unpacked(tmp_path / "casp7") == FILES

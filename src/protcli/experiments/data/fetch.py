"""Fetch a ProteinNet release: resumable download, digest, and unpacking that cannot write outside its folder."""

import gzip
import hashlib
import http.client
import json
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from protcli.atomic import write_whole
from protcli.errors import ProtcliError, quote, truncate
from protcli.experiments.pages import Progress

OFFICIAL = "https://sharehost.hms.harvard.edu/sysbio/alquraishi/proteinnet/"
RELEASES = ("casp7", "casp8", "casp9", "casp10", "casp11", "casp12")
LAYOUTS = {"text": "human_readable", "tfrecord": "tfrecords"}  # the folder of each on the server

BACK_OFF = (1.0, 3.0, 10.0, 30.0)  # seconds to wait after each consecutive failure, before giving up
TIMEOUT = 60.0  # seconds without a response
CHUNK = 1 << 18
PASSING = {408, 425, 429, 500, 502, 503, 504}  # status codes of failures that may be temporary
# ProteinNet's archives unpack to about 4 times their size; gzip's maximum is about 1,000 times.
MOST_RATIO = 50
LEAST_LIMIT = 1 << 26


_SOURCE = {"etag": "ETag", "last_modified": "Last-Modified", "date": "Date"}  # headers by their names in a record


class _Interrupted(Exception):
    """The network failed in a way that another attempt may fix."""


def fetch_data(name: str, out: Path, *, layout: str = "text", base_url: str = OFFICIAL) -> Generator[Progress]:
    """Fetch a ProteinNet release into the folder `out/name`, yielding the progress in bytes of the archive.

    The label is `download`, `digest` (of the download), `unpack`, or `present` when there is nothing to do.

    The archive is downloaded to `out/name.tar.gz.part` (an earlier partial download is resumed if the server still has
    the same file), unpacked into a temporary folder that is then renamed, and deleted; `out/name.json` records url,
    bytes, sha256, etag, and the server's dates. ProteinNet publishes no checksums: a later fetch is compared with that
    record.

    Args:
        name: one of RELEASES.
        out: folder to fetch into, created if missing.
        layout: one of LAYOUTS.
        base_url: of the folder that holds `human_readable/` and `tfrecords/`.

    Raises:
        ProtcliError: unknown name; network failure (the partial download is kept for resuming); an archive other than
            the recorded one; an archive that is damaged or would write outside its folder (nothing of it is kept).
    """
    if name not in RELEASES:
        raise ProtcliError(f"unknown ProteinNet release {name!r}: choose one of {', '.join(RELEASES)}")
    if layout not in LAYOUTS:
        raise ProtcliError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    if not base_url.startswith(("http://", "https://")):
        raise ProtcliError(f"{base_url} is not a web address: expected one that begins with https:// or http://")
    return _fetch(f"{base_url.rstrip('/')}/{LAYOUTS[layout]}/{name}.tar.gz", name, out)


def _fetch(url: str, name: str, out: Path) -> Generator[Progress]:
    folder, record_file, part = out / name, out / f"{name}.json", out / f"{name}.tar.gz.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(out / f".{name}.lock", timeout=0):
            record = _read_json(record_file)
            if folder.exists():
                if record.get("url") != url:
                    origin = f"came from {record['url']}" if record else "was not created by a fetch"
                    raise ProtcliError(f"{folder} exists and {origin}: move it away or fetch into another folder")
                yield Progress("present", record.get("bytes", 0), record.get("bytes"), "bytes")
                return
            source = yield from _download(url, part)
            digest = yield from _digest(part)
            if record.get("url") == url and record.get("sha256", digest) != digest:
                raise ProtcliError(
                    f"{url} has changed since {record.get('date') or 'the last fetch'}: its sha256 is {digest}, but "
                    f"{record_file} has {record['sha256']}; delete that file to accept the new archive, or {part} to "
                    f"fetch it again"
                )
            staging = out / f".{name}.unpacking"
            try:
                unpacked = yield from _unpack(part, staging)
                _write_json(record_file, {"url": url, "bytes": part.stat().st_size, "sha256": digest, **source})
                unpacked.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            _discard(part)
    except filelock.Timeout as error:
        raise ProtcliError(f"another fetch of {name} into {out} is running: wait for it") from error
    except OSError as error:
        raise ProtcliError(f"cannot write {error.filename or out}: {error.strerror or error}") from error


def _download(url: str, part: Path) -> Generator[Progress, None, dict[str, Any]]:
    """Complete `part`, however often the connection drops; return what the server says about the archive."""
    failures, most = 0, _size(part)
    while True:
        try:
            return (yield from _attempt(url, part))
        except _Interrupted as interruption:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures > len(BACK_OFF):
                kept = f"; {most:,} bytes are kept in {part}, and the same command resumes from there" if most else ""
                raise ProtcliError(f"{url} could not be fetched ({interruption}){kept}") from interruption
        time.sleep(BACK_OFF[max(failures - 1, 0)])


def _attempt(url: str, part: Path) -> Generator[Progress, None, dict[str, Any]]:
    """One request, for the rest of the archive if there is a part that is known to be of the same file."""
    state = _read_json(_state_file(part))
    source = {key: state.get(key) for key in _SOURCE}
    # a version of a file is named by a strong ETag, else by the date of its last change
    version = source["last_modified"] if (source["etag"] or "W/").startswith("W/") else source["etag"]
    done = _size(part) if state.get("url") == url and version else 0
    if done and done == state.get("total"):
        return source
    headers = {"User-Agent": "protcli", "Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": str(version)}
    with _open(url, headers) as response:
        told = response.headers
        span, _, total = told.get("Content-Range", "").removeprefix("bytes ").partition("/")
        # the rest, or that nothing is left; not every server respects If-Range
        fits = span.startswith(f"{done}-") and total.isdecimal() if response.status == 206 else total == str(done)
        fits &= all(told.get(_SOURCE[key], source[key]) == source[key] for key in ("etag", "last_modified"))
        if response.status in (206, 416) and not fits:
            _discard(part)
            raise _Interrupted("the archive has changed on the server")
        if response.status == 416:
            return source
        length = int(total) if response.status == 206 else response.length
        if response.status != 206:  # there was no part, or the file has changed, or the server has no range requests
            done, source = 0, {key: told.get(header) for key, header in _SOURCE.items()}
            part.write_bytes(b"")
            _write_json(_state_file(part), {"url": url, "total": length, **source})
        yield Progress("download", done, length, "bytes")
        with part.open("ab") as file:
            while True:
                with _network():
                    chunk = response.read(CHUNK)
                if not chunk:
                    break
                file.write(chunk)
                done += len(chunk)
                yield Progress("download", done, length, "bytes")
    if length not in (None, done):
        raise _Interrupted(f"the connection closed after {done:,} of {length:,} bytes")
    return source


def _open(url: str, headers: dict[str, str]) -> Any:
    """The response to a request; of those that are errors, only 416 to one for the rest of a file."""
    with _network():
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == 416 and "Range" in headers:
                return error
            error.close()
            answer = f"the server answered {error.code} {error.reason}"
            if error.code in PASSING:
                raise _Interrupted(answer) from error
            raise ProtcliError(f"{url} cannot be fetched: {answer}") from error


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise _Interrupted(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _digest(part: Path) -> Generator[Progress, None, str]:
    digest, total = hashlib.sha256(), _size(part)
    with part.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield Progress("digest", file.tell(), total, "bytes")
    return digest.hexdigest()


class _Limited:
    """A stream that refuses to return more than `limit` bytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self.stream, self.left = stream, limit

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError(f"it unpacks to more than {MOST_RATIO} times its size")
        return data


def _unpack(archive: Path, staging: Path) -> Generator[Progress, None, Path]:
    """Unpack a .tar.gz into a new folder; return it, or its only subfolder if that holds the whole archive.

    Only plain files and folders below the staging folder are accepted; a refused archive is deleted.
    """
    total = archive.stat().st_size
    if staging.exists():  # left by a fetch that was killed
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        with archive.open("rb") as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            limited: Any = _Limited(unpacked, max(LEAST_LIMIT, MOST_RATIO * total))
            with tarfile.open(fileobj=limited, mode="r|") as tar:
                for member in tar:
                    for _ in _extract(tar, member, staging):
                        yield Progress("unpack", packed.tell(), total, "bytes")
            while limited.read(CHUNK):  # to the end, to check gzip's checksum
                pass
        roots = list(staging.iterdir())
        if not roots:
            raise tarfile.TarError("it is empty")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        _discard(archive)
        raise ProtcliError(
            f"{archive} was refused ({truncate(error, 200)}) and deleted; nothing was unpacked: fetch it again"
        ) from error
    yield Progress("unpack", total, total, "bytes")
    return roots[0] if len(roots) == 1 and roots[0].is_dir() else staging


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, staging: Path) -> Iterator[None]:
    """Write one file or folder below `staging`, piece by piece; TarError for anything else."""
    name, target = PurePosixPath(member.name), staging / member.name
    outside = name.is_absolute() or not target.is_relative_to(staging)  # such as a drive letter on Windows
    if outside or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise tarfile.TarError(f"{quote(member.name)} points outside its folder")
    content = tar.extractfile(member) if member.isfile() and not member.issparse() else None
    if content is None and not member.isdir():
        raise tarfile.TarError(f"{quote(member.name)} is neither a plain file nor a folder")
    try:
        (target.parent if content else target).mkdir(parents=True, exist_ok=True)
        if content:
            with target.open("xb") as file:
                while chunk := content.read(CHUNK):
                    file.write(chunk)
                    yield
    except (FileExistsError, NotADirectoryError):
        raise tarfile.TarError(f"{quote(member.name)} occurs twice, or is a folder and a file") from None
    yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_file(part: Path) -> Path:
    """The file that records what is known about the archive of `part`."""
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """What was noted of an archive: one that is being downloaded, or (with its digest) one that was unpacked."""
    if not path.exists():
        return {}
    try:
        record = {"url": "", **json.loads(path.read_bytes())}
        kinds = {"bytes": int, "total": int}
        if not all(isinstance(value, kinds.get(name, str) | None) for name, value in record.items()):
            raise TypeError("a value of another type")
        return record
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtcliError(f"{path} is not the JSON that a fetch writes ({truncate(error, 200)}): delete it") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=2) + "\n")

"""Files of corpora from the package index and the web, checked against their checksums."""

import errno
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, InvalidURL
from pathlib import Path

from seedbed.checksums import sha256
from seedbed.errors import SeedbedError
from seedbed.files import replacing
from seedbed.progress import progress

ATTEMPTS = 5
TRY_AGAIN = (408, 429)  # of the answers 3xx and 4xx, those that another attempt may change


def download(source: dict, target: Path) -> None:
    """Fetch the wheel or URL of `source` to the file `target`, checked against its sha256.

    Raises SeedbedError without network, or when the checksum is wrong (the file is then deleted).
    """
    if "package" in source:
        download_package(source["package"], source["sha256"], target)
    else:
        download_url(source["url"], source["sha256"], target)


def download_package(package: str, checksum: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-input", "--no-deps", "--only-binary", ":all:", "--dest", folder, package]
        print(f"pip downloads {package}", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise SeedbedError(f"cannot download {package} (is there a network?): pip reports {reasons[-1]}")
        (wheel,) = Path(folder).iterdir()
        check_sha256(wheel, checksum, package)
        with replacing(target) as partial:
            shutil.copyfile(wheel, partial)


def download_url(url: str, checksum: str, target: Path, pause: float = 1.0) -> None:
    """Fetch a URL, resuming an interrupted download; `pause` seconds, doubling, between attempts."""
    if url.startswith("file:"):
        check_file_url(url)
    partial = target.with_name(f".{target.name}.download")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            fetch_rest(url, partial)
            break
        except (OSError, HTTPException, ValueError) as error:  # ValueError: urllib does not understand the address
            code = 400 if isinstance(error, ValueError | InvalidURL) else getattr(error, "code", 500)
            if attempt == ATTEMPTS - 1 or (code < 500 and code not in TRY_AGAIN):
                raise SeedbedError(f"cannot download {url}: {error}; the same command resumes it") from None
            time.sleep(pause * 2**attempt)
    try:
        check_sha256(partial, checksum, url)
    except SeedbedError:
        partial.unlink()
        raise
    partial.replace(target)


def check_file_url(url: str) -> None:
    """Refuse the URL of what is no file: a device never ends, a pipe may never begin."""
    path = Path(urllib.request.url2pathname(urllib.request.Request(url).selector))
    if not path.is_file():
        found = "something else" if path.exists() else "nothing"
        raise SeedbedError(f"cannot download {url}: expected a file, found {found} there")


def fetch_rest(url: str, partial: Path) -> None:
    """Append the missing rest of `url` to `partial`; start over if the server supports no ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete
            return
        raise
    with response, writing(partial), partial.open("ab" if response.status == 206 else "wb") as stream:
        length = response.headers.get("Content-Length") or ""
        expected = int(length) if re.fullmatch("[0-9]{1,18}", length) else -1
        received, whole = 0, have + expected if response.status == 206 else expected
        shown = {"what": url.rpartition("/")[2], "unit": "B", "unit_scale": True, "initial": max(0, whole - expected)}
        with progress(total=whole if expected >= 0 else None, **shown) as bar:
            while block := response.read(1 << 20):
                stream.write(block)
                received += len(block)
                bar.update(len(block))
    if expected >= 0 and received < expected:
        raise OSError(f"connection closed after {received} of {expected} bytes")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file where the disk, not the network, is what fails."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SeedbedError(f"cannot write {path}: {error.strerror}; free some space, or delete it") from None
        raise


def check_sha256(path: Path, expected: str, what: str) -> None:
    found = sha256(path)
    if found != expected:
        raise SeedbedError(f"{what}: wrong sha256: found {found}, expected {expected}")

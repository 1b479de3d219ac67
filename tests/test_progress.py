"""A bar in a terminal of any size, a line now and then elsewhere, nothing for what is soon done."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support import ROOT, corpus_of

from seedbed import progress as shown
from seedbed.data.corpus import read_documents, shards

LOOP = "from seedbed import progress as p; p.IN_TERMINAL = {'mininterval': 0}; p.ELSEWHERE = {'mininterval': 0}; "
LOOP += "bar = p.progress(what='tiny', unit='steps', total=4); "
LOOP += "[(bar.set_postfix_str(f'loss {n}', refresh=False), bar.update()) for n in range(4)]; bar.close()"


def in_terminal(columns: int, lines: int) -> str:
    """What the loop shows in a terminal of that size; 0 is one that does not know it."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with subprocess.Popen([sys.executable, "-c", LOOP], stderr=side, cwd=ROOT):
        os.close(side)
        text = b""
        while True:
            try:
                text += os.read(main, 1 << 16)
            except OSError:  # how Linux says that the other side is closed
                break
    os.close(main)
    return text.decode()


@pytest.mark.parametrize(("columns", "lines"), [(100, 30), (0, 0)])
def test_a_terminal_has_a_bar_that_moves(columns: int, lines: int) -> None:
    states = in_terminal(columns, lines).rstrip().split("\r")
    assert any("2/4" in state and "loss 1" in state for state in states)
    assert "4/4" in states[-1]
    assert all(len(state.strip()) <= (columns or 80) for state in states)


def test_elsewhere_each_state_is_a_line_without_control_characters() -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], cwd=ROOT, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert "\r" not in done.stderr and "\033" not in done.stderr
    assert any(line.startswith("tiny: 50% (2 of 4 steps)") and "left" in line for line in lines)


def test_what_is_soon_done_is_not_told(capfd: pytest.CaptureFixture) -> None:
    assert list(shown.progress(range(3), what="soon", unit="things")) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_reading_counts_the_bytes_of_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(shown, "ELSEWHERE", {"mininterval": 0})
    (shard,) = shards(corpus_of(tmp_path, {"train": [["一", "二"]]}), "train")
    assert list(read_documents(shard, "reading")) == ["一", "二"]
    assert "reading: 100%" in capfd.readouterr().err
    assert list(read_documents(shard)) == ["一", "二"]
    assert capfd.readouterr().err == ""

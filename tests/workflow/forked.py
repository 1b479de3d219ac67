"""Snakemake and the jobs it starts as forks of a process that has loaded their libraries: seconds less for each.

Jobs are started by Snakemake itself, which finds another `python`: one that has the script run in a fork. Both import
Seedbed from the project that they run in. Some tests start both as users do (`Project.command`).
"""

import atexit
import gc
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

from forks import FORKS

PYTHON = """#!{python} -IS
import json, os, signal, socket, sys

if not sys.argv[1:] or not sys.argv[1].endswith(".py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({server!r})
socket.send_fds(server, [b"."], [0, 1, 2])
stream = server.makefile("rw")
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]), file=stream, flush=True)
job = int(stream.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.kill(job, number))
code = int(stream.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def python() -> Path:
    """A command that runs scripts in forks of a process of this one's."""
    folder = Path(tempfile.mkdtemp(prefix="seedbed-"))
    atexit.register(shutil.rmtree, folder)
    server, command = folder / "socket", folder / "python"
    command.write_text(PYTHON.format(python=sys.executable, server=str(server)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(server))
    listening.listen(64)
    FORKS.Process(target=serve, args=(listening, command), daemon=True).start()
    return command


def serve(listening: socket.socket, command: Path) -> None:
    """Have each that connects wait in a process of its own for its script, which runs in another."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    multiprocessing.current_process()._config["daemon"] = False  # scripts have processes of their own
    while True:
        connection, _ = listening.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            attend(connection, command)
            os._exit(0)
        connection.close()


def attend(connection: socket.socket, command: Path) -> None:
    """Run one script and return its exit code; when its caller is killed it is, too."""
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    stream = connection.makefile("rw")
    request = stream.readline()
    if not request:  # it is killed already
        return
    arguments, folder, environment = json.loads(request)
    job = os.fork()
    if not job:
        os._exit(run_script(arguments[1:], command, Path(folder), environment, streams))
    with suppress(BrokenPipeError):
        print(job, file=stream, flush=True)
    ended = os.pidfd_open(job)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        os.kill(job, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    if ended in ready:
        print(code, file=stream, flush=True)


def run_script(arguments: list[str], command: Path, folder: Path, environment: dict, streams: list[int]) -> int:
    paths = [str(Path(arguments[0]).parent), *environment.get("PYTHONPATH", "").split(":")]
    become(command, folder, environment, streams, paths)
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def become(command: Path, folder: Path, environment: dict, streams: list[int], paths: list[str]) -> None:
    """Take on the place of a process that was just started."""
    gc.freeze()  # what was loaded before the fork is no garbage
    for number, stream in enumerate(streams, start=3 - len(streams)):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "seedbed"]:
        del sys.modules[name]
    sys.path[:0] = paths
    sys.executable = str(command)


def run_snakemake(arguments: list[str], command: Path, folder: Path, environment: dict, out: Path) -> None:
    from snakemake.cli import main

    with out.open("w") as stream:
        become(command, folder, environment, [stream.fileno()] * 2, [str(folder)])
    sys.argv = ["snakemake", *arguments]
    main(arguments)


def start_snakemake(arguments: list[str], folder: Path, out: Path) -> BaseProcess:
    """Snakemake under way in a folder; what it says goes to a file."""
    process = FORKS.Process(target=run_snakemake, args=(arguments, python(), folder, dict(os.environ), out))
    process.start()
    return process

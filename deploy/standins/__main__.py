"""Build the stand-in images: ``python -m tidemill.deploy.standins``; prints the variables that make everything use them."""

import argparse
import sys
import time

from tidemill.deploy.embedded.artifacts import ServerArchiveError
from tidemill.deploy.standins.images import PREFIX, RECIPES, StandIns
from tidemill.deploy.standins.tool import StandInError


def main() -> int:
    """Build what was asked for; 1 when an image could not be built."""
    parser = argparse.ArgumentParser(
        prog="python -m tidemill.deploy.standins", description="Images for a machine that reaches packages but no images."
    )
    parser.add_argument("recipes", nargs="*", metavar="IMAGE", help=f"which ones: {', '.join(RECIPES)}; all unless given")
    parser.add_argument("--prefix", default=PREFIX, help="first part of the images' names (default: %(default)s)")
    parser.add_argument("--afresh", action="store_true", help="build the Debian image anew, even when there is one")
    given = parser.parse_args()
    if unknown := sorted(set(given.recipes) - set(RECIPES)):
        parser.error(f"expected some of {', '.join(RECIPES)}, came {', '.join(unknown)}")
    images = StandIns(given.prefix)
    last = time.monotonic()
    try:
        for name in images.build(given.recipes or RECIPES, afresh=given.afresh):
            now = time.monotonic()
            sys.stderr.write(f"{name} ({now - last:.0f} s)\n")
            last = now
    except (StandInError, ServerArchiveError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    for variable, value in images.variables().items():
        sys.stdout.write(f"export {variable}={value}\n")
    # testcontainers' own helper is one more public image; the tests stop their containers without it.
    sys.stdout.write("export TESTCONTAINERS_RYUK_DISABLED=true\n")
    return 0


raise SystemExit(main())

"""One of three upstreams that are all alike: it says which one it is."""

import os

from lilya.apps import Lilya
from lilya.responses import PlainText
from lilya.routing import Path

NAME = os.environ.get("INSTANCE", "?")


async def instance() -> PlainText:
    """Who answers."""
    return PlainText(NAME)


app = Lilya(routes=[Path("/instance", instance)])

"""Mounts an ASGI app in each framework, the way its documentation says.

A prefix is one path, or several for nested mounts: `("/outer", "/auth")`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from lilya.apps import Lilya
from lilya.routing import Include as LilyaInclude
from litestar import Litestar, Router, asgi
from litestar import types as litestar_types
from quart import Quart
from ravyn import Include as RavynInclude
from ravyn import Ravyn
from starlette.applications import Starlette
from starlette.routing import Mount

from .asgi import ASGIApp, Hook, Receive, Scope, Send, answer_lifespan, nothing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


@dataclass(frozen=True)
class Mounted:
    """What is mounted where, and the hooks of the app around it."""

    prefixes: tuple[str, ...]
    app: ASGIApp
    on_startup: Hook
    on_shutdown: Hook

    @property
    def outward(self) -> list[str]:
        """The prefixes around the innermost one, from the inside to the outside."""
        return list(reversed(self.prefixes[:-1]))

    @contextlib.asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        await self.on_startup()
        yield
        await self.on_shutdown()


def mount(
    framework: str,
    prefix: str | Sequence[str],
    app: ASGIApp,
    on_startup: Hook = nothing,
    on_shutdown: Hook = nothing,
) -> ASGIApp:
    """An app of that framework, with `app` mounted in it and the hooks run by its lifespan."""
    prefixes = (prefix,) if isinstance(prefix, str) else tuple(prefix)
    app_around: ASGIApp = _MOUNTS[framework](Mounted(prefixes, app, on_startup, on_shutdown))
    return app_around


def _ravyn(mounted: Mounted) -> Any:
    route = RavynInclude(mounted.prefixes[-1], app=mounted.app)
    for path in mounted.outward:
        route = RavynInclude(path, routes=[route])
    return Ravyn(
        routes=[route],
        on_startup=[mounted.on_startup],
        on_shutdown=[mounted.on_shutdown],
    )


def _lilya(mounted: Mounted) -> Any:
    route = LilyaInclude(mounted.prefixes[-1], app=mounted.app)
    for path in mounted.outward:
        route = LilyaInclude(path, routes=[route])
    return Lilya(
        routes=[route],
        on_startup=[mounted.on_startup],
        on_shutdown=[mounted.on_shutdown],
    )


def _starlette(mounted: Mounted) -> Any:
    route = Mount(mounted.prefixes[-1], app=mounted.app)
    for path in mounted.outward:
        route = Mount(path, routes=[route])
    return Starlette(routes=[route], lifespan=mounted.lifespan)


def _fastapi(mounted: Mounted) -> Any:
    app: Any = mounted.app
    for path in (mounted.prefixes[-1], *mounted.outward):
        around = FastAPI(lifespan=mounted.lifespan)
        around.mount(path, app)
        app = around
    return app


def _litestar(mounted: Mounted) -> Any:
    @asgi(mounted.prefixes[-1], is_mount=True, copy_scope=True)
    async def handler(
        scope: litestar_types.Scope, receive: litestar_types.Receive, send: litestar_types.Send
    ) -> None:
        await mounted.app(scope, receive, send)  # type: ignore[arg-type]

    route: Any = handler
    for path in mounted.outward:
        route = Router(path, route_handlers=[route])
    return Litestar(
        route_handlers=[route],
        on_startup=[mounted.on_startup],
        on_shutdown=[mounted.on_shutdown],
    )


def _quart(mounted: Mounted) -> Any:
    # Quart has no mount of its own; the dispatcher, which its documentation uses, leaves `path`
    # whole and answers no nesting, so all the prefixes are one.
    quart = Quart("tests")
    quart.before_serving(mounted.on_startup)
    quart.after_serving(mounted.on_shutdown)
    app: Any = mounted.app
    return DispatcherMiddleware({"".join(mounted.prefixes): app, "": quart})


def _plain(mounted: Mounted) -> Any:
    """What the ASGI specification says of root_path, by hand: it grows and `path` stays whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send, mounted.on_startup, mounted.on_shutdown)
        else:
            root_path = scope.get("root_path", "") + "".join(mounted.prefixes)
            await mounted.app({**scope, "root_path": root_path}, receive, send)

    return app


_MOUNTS: dict[str, Callable[[Mounted], Any]] = {
    "ravyn": _ravyn,
    "lilya": _lilya,
    "starlette": _starlette,
    "fastapi": _fastapi,
    "litestar": _litestar,
    "quart": _quart,
    "plain": _plain,
}

FRAMEWORKS = tuple(_MOUNTS)

"""The cache of Swift's one proxy, in its memory; elsewhere it is memcached.

Without a cache, each request looks up its account and its container again: a `put` takes twice as
long, a `get` three times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

App = Callable[..., Any]


class Cache:
    """The methods of Swift's client of memcached that a proxy calls; nothing expires.

    Values are kept as JSON, so that a reader may change what it gets.
    """

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, **_: Any) -> Any:
        return json.loads(self._values.get(key, "null"))

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._values[key] = json.dumps(value)

    def delete(self, key: str, **_: Any) -> None:
        self._values.pop(key, None)


def filter_factory(_: Mapping[str, str], **__: str) -> Callable[[App], App]:
    """A filter of the proxy's pipeline, as PasteDeploy loads it."""
    cache = Cache()

    def with_cache(app: App) -> App:
        def call(environ: dict[str, Any], start_response: App) -> Any:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return call

    return with_cache

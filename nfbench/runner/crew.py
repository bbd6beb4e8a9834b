"""The crew: an executor's workers, kept from one run to the next of a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from nfbench.core.execution import Engine, Executor


@dataclass(eq=False)
class Crew:
    """Engines of one executor, by site. Leaving the context frees them."""

    executor: Executor
    _engines: dict[str, Engine] = field(default_factory=dict)

    def engine(self, site: str) -> Engine:
        """The engine for a site, started when it is first asked for.

        Raises:
            UsageError: for devices or an address that are not there.
        """
        if site not in self._engines:
            self._engines[site] = self.executor.engine(site)
        return self._engines[site]

    def dismiss(self, *, abandon: bool) -> None:
        """Free the workers; with `abandon` whatever they are at is stopped."""
        engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close(abandon=abandon)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss(abandon=kind is not None)

"""What XLA takes to compile within some calls, or to read what it has compiled before."""

from types import TracebackType

import jax

__all__ = ["Compiling"]

EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class Compiling:
    """Counts seconds while it is entered, of all threads together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> "Compiling":
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        jax.monitoring.unregister_event_duration_listener(self._heard)

    def _heard(self, event: str, seconds: float, **_: str | int) -> None:
        if event in EVENTS:
            self.seconds += seconds

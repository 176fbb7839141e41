"""Where a pool takes its memory from: plainly, since the reference releases and restores none of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from sglang_reference._errors import not_covered


class MemorySaver:
    """What a pool has as ``memory_saver_adapter``: its regions change nothing."""

    def __init__(self, enable: bool) -> None:
        """Raises NotCovered where SGLang would give memory back while it pauses (``enable_memory_saver``)."""
        if enable:
            raise not_covered("enable_memory_saver")

    def region(self, tag: str) -> AbstractContextManager[None]:
        """A context in which a pool makes its buffers."""
        return nullcontext()

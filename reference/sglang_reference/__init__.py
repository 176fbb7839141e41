"""SGLang's side of the platform contract, re-implemented: no SGLang needed to run a platform plugin.

:func:`install` makes the reference importable under SGLang's own names, following the contract table of one release;
:func:`uninstall` takes it away again, and :func:`precompile` spares processes forked later some time. Covered are the
environment, plugins, platforms and groups of ranks of ``sglang.srt``; anything else raises :class:`NotCovered`.
"""

from __future__ import annotations

from ._errors import NotCovered
from ._install import install, precompile, uninstall

__all__ = ["NotCovered", "install", "precompile", "uninstall"]

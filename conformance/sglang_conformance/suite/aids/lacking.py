"""Imports that fail for want of something that SGLang needs: no fault of the vendor's, and not seen on this host.

A real SGLang may be installed without a package that one of its modules imports. A plugin that rightly goes to that
module then meets an ImportError which it did not cause.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations


def raised_in_sglang(error: ImportError) -> bool:
    """Whether the import failed in a module of SGLang's, for something that is not SGLang's.

    One that lacks a part of SGLang itself is the plugin's: it asked for what is gone, or so early that SGLang's modules
    met each other half imported.
    """
    if (error.name or "").partition(".")[0] == "sglang":
        return False
    innermost, trace = "", error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        innermost = innermost if name.startswith(("importlib", "_frozen_importlib")) else name
        trace = trace.tb_next
    return innermost.startswith("sglang.")

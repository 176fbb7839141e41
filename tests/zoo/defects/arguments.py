"""What platforms do to a server's arguments, and should not."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_BODY = """\
        if server_args.attention_backend is None:
            server_args.attention_backend = "torch_native"
"""


def _applies(*lines: str) -> tuple[Edit, ...]:
    """Acme with another body of ``apply_server_args_defaults``."""
    return (Edit("platform.py", _BODY, "".join(f"        {line}\n" for line in lines)),)


def _applies_also(*lines: str) -> tuple[Edit, ...]:
    """Acme with some more of it."""
    return (Edit("platform.py", _BODY, _BODY + "".join(f"        {line}\n" for line in lines)),)


DEFECTS = (
    Defect("overwrites-the-attention-backend", "ARG-001", _applies('server_args.attention_backend = "torch_native"')),
    Defect(
        "overwrites-the-attention-backend-of-0-5-11",
        "ARG-001",
        _applies('server_args.attention_backend = "torch_native"'),
        release="0.5.11",
    ),
    Defect("overwrites-the-page-size", "ARG-001", _applies_also("server_args.page_size = 128")),
    Defect(
        "switches-the-overlap-scheduler-on-again",
        "ARG-001",
        _applies_also("server_args.disable_overlap_schedule = False"),
    ),
    Defect(
        "caps-the-memory-fraction",
        "ARG-001",
        _applies_also(
            "fraction = server_args.mem_fraction_static", "server_args.mem_fraction_static = min(fraction or 0.8, 0.8)"
        ),
    ),
    Defect(
        "reads-a-field-of-another-release",
        "ARG-002",
        _applies_also("if server_args.cuda_graph_max_bs is None:", "    server_args.disable_cuda_graph = True"),
    ),
    Defect(
        "stumbles-over-a-page-size",
        "ARG-002",
        _applies_also("blocks = {None: 8, 16: 8, 64: 2, 128: 1}[server_args.page_size]"),
    ),
    Defect(
        "returns-its-defaults",
        "ARG-003",
        _applies('return {"attention_backend": server_args.attention_backend or "torch_native"}'),
    ),
    Defect(
        "scales-what-is-there",
        "ARG-004",
        _applies_also("server_args.watchdog_timeout = server_args.watchdog_timeout * 2"),
        also=("ARG-001",),
    ),
    Defect(
        "remembers-the-first-configuration",
        "ARG-005",
        _applies_also(
            "type(self).page = getattr(type(self), 'page', None) or server_args.page_size",
            "if server_args.page_size is None and self.page:",
            "    server_args.page_size = self.page",
        ),
    ),
    Defect(
        "alters-the-graph-settings-in-place",
        "ARG-006",
        _applies_also('server_args.cuda_graph_config.decode.backend = "disabled"'),
    ),
    Defect(
        "sets-a-field-of-another-release",
        "ARG-007",
        _applies_also("server_args.disable_piecewise_cuda_graph = True"),
    ),
    Defect(
        "patches-torch",
        "ARG-008",
        _applies_also("torch.compile = lambda model, **options: model"),
    ),
    Defect(
        "plants-a-module",
        "ARG-008",
        _applies_also("import sys, types", 'sys.modules["flashinfer"] = types.ModuleType("flashinfer")'),
    ),
    Defect(
        "sets-a-variable",
        "ARG-009",
        _applies_also("import os", 'os.environ["SGLANG_USE_AITER"] = "0"'),
    ),
    Defect(
        "default-attention-starts-the-device",
        "ARG-010",
        (
            Edit(
                "platform.py",
                '        """The attention that needs nothing but torch\'s own operators."""\n',
                "        self.init_backend()\n",
            ),
        ),
        of="sim",
    ),
)

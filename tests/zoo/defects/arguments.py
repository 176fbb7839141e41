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


def _registry(*names: str) -> tuple[Edit, ...]:
    """A registry of attention backends, as a complete SGLang has it; the reference host covers none."""
    name = "sglang.srt.layers.attention.attention_registry"
    planted = f"registry.ATTENTION_BACKENDS = dict.fromkeys({names!r})"
    text = f"import sys, types\n\nregistry = sys.modules[{name!r}] = types.ModuleType({name!r})\n{planted}\n"
    return (Edit("platform.py", "", f"\n\n{text}"),)


DEFECTS = (
    Defect("overwrites-the-load-format", "ARG-001", _applies_also('server_args.load_format = "auto"')),
    Defect(
        "overwrites-the-experts-of-0-5-11",
        "ARG-001",
        _applies_also('server_args.moe_a2a_backend = "none"', "server_args.ep_size = 1"),
        release="0.5.11",
    ),
    Defect(
        "captures-graphs-against-the-user",
        "ARG-001",
        _applies_also(
            "import copy",
            "graphs = copy.deepcopy(server_args.cuda_graph_config)",
            'graphs.decode.backend = "full"',
            "server_args.cuda_graph_config = graphs",
        ),
    ),
    Defect(
        "warns-of-something-else",
        "ARG-001",
        _applies_also(
            "import logging",
            'logging.getLogger(__name__).warning("the firmware is old")',
            "server_args.page_size = 128",
        ),
    ),
    Defect(
        "replaces-with-a-warning",
        "ARG-011",
        _applies_also(
            "import logging",
            "if server_args.page_size not in (None, 128):",
            '    logging.getLogger(__name__).warning("acme serves no other page size than 128")',
            "    server_args.page_size = 128",
        ),
    ),
    Defect("refuses-without-a-word", "ARG-002", _applies_also("assert server_args.pp_size == 1")),
    Defect("names-a-device-unknown-to-torch", "ARG-012", _applies_also('server_args.device = "acme"')),
    Defect(
        "page-size-is-a-text",
        "ARG-012",
        _applies_also("if server_args.page_size is None:", '    server_args.page_size = "128"'),
    ),
    Defect(
        "memory-fraction-in-percent",
        "ARG-012",
        _applies_also("if server_args.mem_fraction_static is None:", "    server_args.mem_fraction_static = 85"),
    ),
    Defect(
        "drops-the-graph-settings",
        "ARG-012",
        _applies_also("if not server_args._cuda_graph_config_locked:", "    server_args.cuda_graph_config = None"),
    ),
    Defect(
        "misspells-its-attention-backend",
        "ARG-013",
        (Edit("platform.py", _BODY, _BODY.replace("torch_native", "torch-native")), *_registry("acme_fa")),
    ),
    Defect("trusts-the-models-code", "ARG-014", _applies_also("server_args.trust_remote_code = True")),
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
        _applies_also(
            'if ("decode", "backend") not in server_args._cuda_graph_config_locked:',
            '    server_args.cuda_graph_config.decode.backend = "disabled"',
        ),
    ),
    Defect("sets-a-misspelt-field", "ARG-007", _applies_also("server_args.disable_cuda_graphs = True")),
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
        "default-attention-starts-a-device",
        "ARG-010",
        (
            Edit(
                "platform.py",
                "    def get_default_attention_backend(self) -> str:\n",
                "    def get_default_attention_backend(self) -> str:\n        torch.cuda._initialized = True\n",
            ),
        ),
    ),
)

"""Other right ways with the server's arguments."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_BODY = """\
        if server_args.attention_backend is None:
            server_args.attention_backend = "torch_native"
"""


def _applies_also(*lines: str) -> tuple[Edit, ...]:
    """Acme with some more of ``apply_server_args_defaults``."""
    return (Edit("platform.py", _BODY, _BODY + "".join(f"        {line}\n" for line in lines)),)


def _refuses(name: str, *lines: str) -> Variant:
    return Variant(
        f"refuses-settings-with-{name}",
        ("ARG-001", "ARG-002", "ARG-004"),
        _applies_also(*lines),
        "SGLang's own steps refuse so, and no handler treats one kind of error apart (0.5.23, hicache_hook.py:138)",
    )


VARIANTS: tuple[Variant, ...] = (
    _refuses(
        "not-implemented",
        "if server_args.pp_size > 1:",
        '    raise NotImplementedError("acme serves no pipeline parallelism: leave --pp-size at 1")',
    ),
    _refuses("an-assertion", 'assert server_args.pp_size == 1, "acme serves no pipeline parallelism"'),
    _refuses(
        "a-runtime-error",
        "if server_args.pp_size > 1:",
        '    raise RuntimeError("acme serves no pipeline parallelism")',
    ),
    Variant(
        "reads-which-graph-settings-are-the-users",
        ("ARG-001", "ARG-002", "ARG-006", "ARG-012"),
        _applies_also(
            "import copy",
            'if ("decode", "backend") not in server_args._cuda_graph_config_locked:',
            "    graphs = copy.deepcopy(server_args.cuda_graph_config)",
            '    graphs.decode.backend = "disabled"',
            "    server_args.cuda_graph_config = graphs",
        ),
        "SGLang notes them before it asks, and nothing else tells them (0.5.23, cuda_graph_hook.py:101)",
    ),
    Variant(
        "reads-what-the-user-gave",
        ("ARG-001", "ARG-002"),
        _applies_also(
            'if server_args._raw_input["mem_fraction_static"] is None and not hasattr(server_args, "_acme_done"):',
            "    server_args.mem_fraction_static = server_args.mem_fraction_static or 0.8",
        ),
        "SGLang notes it before it asks (0.5.23, pipeline.py:29)",
    ),
    Variant(
        "replaces-what-it-cannot-serve-with-a-warning",
        ("ARG-001",),
        _applies_also(
            "import logging",
            "if (server_args.max_running_requests or 0) > 2048:",
            '    logging.getLogger(__name__).warning("acme: at most 2048 requests")',
            "    server_args.max_running_requests = 2048",
            "if server_args.enable_torch_compile:",
            '    logging.getLogger(__name__).warning("acme has no use for torch.compile")',
            "    server_args.enable_torch_compile = False",
        ),
        "SGLang does so itself (0.5.23, platform_hook.py:138); the user is told",
    ),
    Variant(
        "disables-graphs-with-a-warning",
        ("ARG-001",),
        _applies_also(
            "import copy, logging",
            'if server_args.cuda_graph_config.decode.backend != "disabled":',
            '    logging.getLogger(__name__).warning("acme captures no graphs; disabling them")',
            "    graphs = copy.deepcopy(server_args.cuda_graph_config)",
            '    graphs.decode.backend = "disabled"',
            "    server_args.cuda_graph_config = graphs",
        ),
        "as SGLang's XPU does (0.5.23, platform_hook.py:138)",
    ),
    Variant(
        "asks-its-driver-by-a-command",
        ("ARG-001", "ARG-002", "ARG-004", "ARG-005", "ARG-006", "ARG-012", "ARG-013", "ARG-014"),
        _applies_also("import time", "time.sleep(0.3)"),
        "a command of the driver's takes that long, and SGLang calls this once",
        deadline=8.0,
    ),
    Variant(
        "sets-fields-of-other-releases",
        ("ARG-007",),
        _applies_also(
            'for name in ("disable_cuda_graph", "disable_piecewise_cuda_graph"):',
            "    setattr(server_args, name, True)",
            "server_args._acme_done = True",
        ),
        "SGLang ignores what is no field of its release (0.5.23, overrides.py:162)",
    ),
    Variant(
        "returns-the-arguments",
        ("ARG-003",),
        _applies_also("return server_args"),
        "SGLang ignores what is returned (0.5.23, overrides.py:154)",
    ),
    Variant(
        "alters-graph-settings-that-nobody-chose",
        ("ARG-001", "ARG-002"),
        _applies_also(
            'if ("decode", "backend") not in server_args._cuda_graph_config_locked:',
            '    server_args.cuda_graph_config.decode.backend = "disabled"',
        ),
        "what SGLang reads from then on is the very object (0.5.23, cuda_graph_hook.py:96)",
    ),
    Variant(
        "fills-in-many-fields",
        ("ARG-001", "ARG-012", "ARG-013", "ARG-014"),
        _applies_also(
            "import numpy",
            "for name, value in {",
            '    "page_size": numpy.int64(128), "mem_fraction_static": numpy.float32(0.5),',
            '    "cuda_graph_bs_decode": (1, 2), "sampling_backend": "pytorch", "enable_multimodal": False,',
            "}.items():",
            "    if getattr(server_args, name) is None:",
            "        setattr(server_args, name, value)",
        ),
        "each value is of a type that serves as the field's",
    ),
)

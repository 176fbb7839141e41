"""Other right ways to start a worker."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_FILE = "platform.py"
_START = "        torch.set_flush_denormal(False)\n"
_INIT = "    def init_backend(self) -> None:\n"


def _start(name: str, requirements: tuple[str, ...], lines: str, why: str) -> Variant:
    """Another start of the device."""
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    return Variant(name, requirements, (Edit(_FILE, _START, _START + body),), why)


def _model(name: str, requirements: tuple[str, ...], lines: str, why: str) -> Variant:
    """A platform with a post_load_model of its own."""
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    method = f"    def post_load_model(self, model: Any) -> Any:\n{body}\n"
    return Variant(name, requirements, (Edit(_FILE, _INIT, method + _INIT),), why)


_LAST = "        admit(self.device_type)\n"
_LOADED = ("INIT-009", "INIT-011", "INIT-012")

VARIANTS: tuple[Variant, ...] = (
    _start(
        "init-backend-returns-true",
        ("INIT-001", "INIT-002", "INIT-008"),
        "return True",
        "SGLang does not look at what it returns (0.5.23, model_runner.py:271)",
    ),
    _start(
        "init-backend-sets-variables-of-its-own",
        ("INIT-003", "INIT-004", "INIT-005", "INIT-013", "INIT-014", "INIT-015"),
        "import os\n"
        'os.environ["ACME_VISIBLE_DEVICES"] = "0"\n'
        'os.environ.setdefault("SGLANG_ACME_FUSED", "1")\n'
        "torch.set_num_threads(2)",
        "nobody but the vendor reads these, and how many threads compute is for each worker to say",
    ),
    _start(
        "init-backend-imports-much",
        ("INIT-005", "INIT-013", "INIT-014"),
        "from torch import _dynamo, _inductor",
        "what a plugin needs it imports, and torch's own modules arrange torch as they always do",
    ),
    _model(
        "post-load-model-asks-the-first-parameter",
        _LOADED,
        "device = next(model.parameters()).device\nmodel.to(device)",
        "SGLang hands over loaded models only (0.5.23, model_runner.py:1322), and these have parameters",
    ),
    _model(
        "post-load-model-reads-the-config",
        _LOADED,
        'if "LlamaForCausalLM" in model.config.architectures and model.config.tie_word_embeddings:\n    model.eval()',
        "SGLang's models have their config",
    ),
    _model(
        "post-load-model-copies-the-data",
        (*_LOADED, "INIT-018"),
        "for parameter in model.parameters():\n    parameter.data = parameter.data.clone().contiguous()\nreturn model",
        "the parameters are the same, their data lies elsewhere",
    ),
    _model(
        "post-load-model-loses-digits",
        ("INIT-009", "INIT-012"),
        "for parameter in model.parameters():\n    parameter.data = parameter.data.bfloat16().float()",
        "a format of fewer digits is a device's own affair, within 2 %",
    ),
    Variant(
        "init-backend-warms-the-first-device-up",
        ("INIT-001", "INIT-016", "INIT-017"),
        (
            Edit(
                _FILE,
                _LAST,
                f"{_LAST}        torch.ones(1 << 16, device='sim:0').sum()\n        torch.sim.empty_cache()\n",
            ),
        ),
        "nothing of it stays",
        of="sim",
    ),
)

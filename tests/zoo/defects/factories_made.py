"""What factories hand out does something else than SGLang's core builds on."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_POOL = "    def get_kv_pool_cls(self, *, kind: str) -> None:\n        return None\n"
_ALLOCATOR = (
    "        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator\n\n"
    "        return PagedTokenToKVPoolAllocator\n"
)
_POOLS = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}
_LATENT = "        from acme.latent import AcmeLatentPool\n\n        return AcmeLatentPool\n"


def pool(*body: str, kind: str = "mha") -> tuple[Edit, ...]:
    """Acme with a pool of its own for a kind: SGLang's, less these methods."""
    lines = "".join(f"    {line}\n" for line in body)
    return (
        Edit(
            "platform.py",
            _POOL,
            "    def get_kv_pool_cls(self, *, kind: str) -> type | None:\n"
            "        from acme.pools import AcmePool\n\n"
            f"        return AcmePool if kind == {kind!r} else None\n",
        ),
        Edit(
            "pools.py",
            "",
            "import torch\n"
            f"from sglang.srt.mem_cache.memory_pool import {_POOLS[kind]}\n\n\n"
            f"class AcmePool({_POOLS[kind]}):\n{lines}",
        ),
    )


def allocator(*body: str) -> tuple[Edit, ...]:
    """Acme with an allocator of its own: SGLang's, less these methods."""
    lines = "".join(f"    {line}\n" for line in body)
    return (
        Edit(
            "platform.py", _ALLOCATOR, "        from acme.slots import AcmeAllocator\n\n        return AcmeAllocator\n"
        ),
        Edit(
            "slots.py",
            "",
            "import torch\n"
            "from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator\n\n\n"
            f"class AcmeAllocator(PagedTokenToKVPoolAllocator):\n{lines}",
        ),
    )


_EAGER = '        return "eager"\n'
_STARTED = "        torch.set_flush_denormal(False)\n"
_KEY = "    supported_quantization: list[str] = []\n"
_HOOKED = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_OPERATORS = {
    "RMSNorm": "layernorm",
    "SiluAndMul": "activation",
    "RotaryEmbedding": "rotary_embedding.base",
    "TopK": "moe.topk",
}


def operators(**bodies: tuple[str, ...]) -> tuple[Edit, ...]:
    """Acme with a dispatch key of its own, and operators that are registered for it: ``forward`` of each."""
    lines = [
        "import torch",
        "",
        "",
        "def register():",
        "    from sglang.srt.layers.utils.multi_platform import MultiPlatformOp",
        "",
    ]
    for name in bodies:
        lines += [
            f"    from sglang.srt.layers.{_OPERATORS[name]} import {name}",
            f"    MultiPlatformOp.register_oot_forward({name}, {name.lower()}, 'acme')",
        ]
    for name, body in bodies.items():
        lines += ["", "", *(line.replace("forward(", f"{name.lower()}(", 1) for line in body)]
    return (
        Edit("platform.py", _KEY, f"{_KEY}\n    def get_dispatch_key_name(self) -> str:\n        return 'acme'\n"),
        Edit("platform.py", _STARTED, f"{_STARTED}        from acme import kernels\n\n        kernels.register()\n"),
        Edit("kernels.py", "", "\n".join(lines) + "\n"),
    )


def replaced(target: str, *body: str) -> tuple[Edit, ...]:
    """Acme with one of SGLang's functions put in another's place by a hook, whose body is given ``original``."""
    hook = "".join(f"    {line}\n" for line in body)
    return (
        Edit("hooks.py", _HOOKED, f"{_HOOKED}    HookRegistry.register({target!r}, instead, HookType.AROUND)\n"),
        Edit("hooks.py", "", f"\n\ndef instead(original, *args, **kwargs):\n{hook}"),
    )


_MADE = (
    Defect(
        "latent-pool-takes-no-index",
        "FAC-029",
        (
            Edit(
                "platform.py",
                _LATENT,
                "        from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool\n\n"
                "        return MLATokenToKVPool\n",
            ),
        ),
        release="0.5.11",
    ),
    Defect(
        "kv-pool-is-made-with-a-layout",
        "FAC-029",
        pool("def __init__(self, *args, layout, **kwargs):", "    super().__init__(*args, **kwargs)"),
    ),
    Defect(
        "kv-pool-fails-on-its-device",
        "FAC-029",
        pool("def _create_buffers(self):", "    self.k_buffer = self.v_buffer = torch.zeros(4, device='acme')"),
    ),
)

_POOL_CONTENTS = (
    Defect(
        "kv-pool-counts-layers-of-the-rank",
        "FAC-030",
        pool(
            "def get_key_buffer(self, layer_id):",
            "    return self.k_buffer[layer_id % self.layer_num]",
        ),
    ),
    Defect(
        "kv-pool-has-no-page-for-padding",
        "FAC-030",
        pool(
            "def _create_buffers(self):",
            "    super()._create_buffers()",
            "    self.k_buffer = [each[: self.size].clone() for each in self.k_buffer]",
        ),
    ),
    Defect(
        "kv-pool-reads-keys-as-contiguous",
        "FAC-030",
        pool(
            "def set_kv_buffer(self, layer, loc_info, cache_k, cache_v, *args, **kwargs):",
            "    cache_k = cache_k.as_strided(cache_k.shape, (cache_k[0].numel(), cache_k.shape[2], 1))",
            "    super().set_kv_buffer(layer, loc_info, cache_k, cache_v, *args, **kwargs)",
        ),
    ),
    Defect(
        "kv-pool-gives-back-another-type",
        "FAC-030",
        pool("def get_value_buffer(self, layer_id):", "    return super().get_value_buffer(layer_id).float()"),
    ),
    Defect(
        "latent-pool-takes-the-wrong-end-for-values",
        "FAC-031",
        pool(
            "def get_value_buffer(self, layer_id):",
            "    return self.get_key_buffer(layer_id)[..., self.qk_rope_head_dim :]",
            kind="mla",
        ),
        also=("FAC-032",),
    ),
    Defect(
        "latent-pool-puts-the-rotary-part-first",
        "FAC-032",
        pool(
            "def set_mla_kv_buffer(self, layer, loc_info, cache_k_nope, cache_k_rope):",
            "    self.set_kv_buffer(layer, loc_info, torch.cat((cache_k_rope, cache_k_nope), dim=-1), None)",
            kind="mla",
        ),
    ),
    Defect(
        "sparse-pool-leaves-out-the-first-page",
        "FAC-033",
        pool(
            "def get_key_buffer(self, layer_id):",
            "    return super().get_key_buffer(layer_id)[self.page_size :]",
            kind="dsa",
        ),
    ),
    Defect(
        "kv-pool-moves-the-first-layer-only",
        "FAC-034",
        pool(
            "def move_kv_cache(self, tgt_loc, src_loc):",
            "    for buffer in (self.k_buffer[0], self.v_buffer[0]):",
            "        buffer[tgt_loc] = buffer[src_loc]",
        ),
    ),
    Defect(
        "kv-pool-copies-keys-alone",
        "FAC-035",
        pool(
            "def load_cpu_copy(self, kv_cache_cpu, indices, **kwargs):",
            "    values = [each.clone() for each in self.v_buffer]",
            "    super().load_cpu_copy(kv_cache_cpu, indices, **kwargs)",
            "    self.v_buffer = values",
        ),
    ),
)

_SLOTS = (
    Defect(
        "allocator-hands-out-the-page-for-padding",
        "FAC-036",
        allocator("def clear(self):", "    super().clear()", "    self.free_pages = self.free_pages - 1"),
    ),
    Defect(
        "allocator-decodes-into-a-page-of-its-own",
        "FAC-036",
        allocator(
            "def alloc_decode(self, seq_lens, seq_lens_cpu, last_loc):",
            "    pages = self._take(len(seq_lens), len(seq_lens))",
            "    return None if pages is None else pages * self.page_size",
        ),
    ),
    Defect(
        "allocator-counts-pages-for-slots",
        "FAC-036",
        allocator("def available_size(self):", "    return len(self.free_pages) + self.num_staged_pages"),
    ),
    Defect(
        "allocator-frees-a-page-for-each-slot",
        "FAC-036",
        allocator(
            "def free(self, free_index):",
            "    if self.is_not_in_free_group and free_index.numel():",
            "        self._give_back(free_index // self.page_size)",
        ),
    ),
    Defect(
        "allocator-raises-when-full",
        "FAC-037",
        allocator(
            "def _take(self, pages, at_most):",
            "    taken = super()._take(pages, at_most)",
            "    if taken is None:",
            "        raise RuntimeError('no pages are left')",
            "    return taken",
        ),
    ),
    Defect(
        "allocator-loses-what-does-not-suffice",
        "FAC-037",
        allocator(
            "def _take(self, pages, at_most):",
            "    taken = super()._take(pages, at_most)",
            "    if taken is None:",
            "        self.free_pages = self.free_pages[1:]",
            "    return taken",
        ),
    ),
    Defect(
        "allocator-frees-the-last-of-a-group",
        "FAC-038",
        allocator(
            "def free_group_end(self):",
            "    self.free_group = self.free_group[-1:]",
            "    super().free_group_end()",
        ),
    ),
    Defect(
        "allocator-frees-one-page-of-a-segment",
        "FAC-039",
        allocator(
            "def free_segment(self, free_index, *, start_pos):",
            "    self.free(free_index[: self.page_size])",
        ),
    ),
    Defect(
        "allocator-keeps-what-drafts-took",
        "FAC-040",
        allocator("def restore_state(self, state):", "    pass"),
        release="0.5.11",
    ),
    Defect(
        "allocators-share-their-pages",
        "FAC-041",
        allocator(
            "shared = {}",
            "",
            "@property",
            "def free_pages(self):",
            "    return self.shared[self.page_size]",
            "",
            "@free_pages.setter",
            "def free_pages(self, pages):",
            "    self.shared[self.page_size] = pages",
        ),
    ),
)

_COMPUTED = (
    Defect(
        "norm-takes-the-mean-away",
        "FAC-042",
        operators(
            RMSNorm=(
                "def forward(self, x, residual=None, *args, **kwargs):",
                "    if residual is not None:",
                "        return self.forward_native(x, residual, *args, **kwargs)",
                "    return self.forward_native((x - x.mean(dim=-1, keepdim=True)).to(x.dtype))",
            )
        ),
    ),
    Defect(
        "norm-reads-parts-as-contiguous",
        "FAC-042",
        operators(
            RMSNorm=(
                "def forward(self, x, *args, **kwargs):",
                "    return self.forward_native(x.as_strided(x.shape, (x.shape[-1], 1)), *args, **kwargs)",
            )
        ),
    ),
    Defect(
        "norm-of-no-tokens-fails",
        "FAC-042",
        operators(
            RMSNorm=(
                "def forward(self, x, *args, **kwargs):",
                "    largest = x.abs().max()",
                "    return self.forward_native(x, *args, **kwargs)",
            )
        ),
        also=("FAC-043",),
    ),
    Defect(
        "norm-keeps-the-residual-from-before",
        "FAC-043",
        operators(
            RMSNorm=(
                "def forward(self, x, residual=None, *args, **kwargs):",
                "    if residual is None:",
                "        return self.forward_native(x)",
                "    return self.forward_native(x, residual, *args, **kwargs)[0], residual",
            )
        ),
    ),
    Defect(
        "gate-is-the-second-half",
        "FAC-044",
        operators(
            SiluAndMul=(
                "def forward(self, x):",
                "    up, gate = x.chunk(2, dim=-1)",
                "    return torch.nn.functional.silu(gate) * up",
            )
        ),
    ),
    Defect(
        "rotary-embedding-in-halves-only",
        "FAC-045",
        operators(
            RotaryEmbedding=(
                "def forward(self, positions, query, key, *args, **kwargs):",
                "    style, self.is_neox_style = self.is_neox_style, True",
                "    try:",
                "        return self.forward_native(positions, query, key, *args, **kwargs)",
                "    finally:",
                "        self.is_neox_style = style",
            )
        ),
    ),
    Defect(
        "rotary-embedding-in-the-order-of-tokens",
        "FAC-045",
        operators(
            RotaryEmbedding=(
                "def forward(self, positions, query, key, *args, **kwargs):",
                "    return self.forward_native(positions.sort().values, query, key, *args, **kwargs)",
            )
        ),
    ),
    Defect(
        "experts-weights-are-never-renormalised",
        "FAC-046",
        operators(
            TopK=(
                "def forward(self, hidden_states, router_logits, **kwargs):",
                "    self.topk_config.renormalize = False",
                "    return self.forward_native(hidden_states, router_logits, **kwargs)",
            )
        ),
    ),
    Defect(
        "experts-weights-of-other-experts",
        "FAC-046",
        operators(
            TopK=(
                "def forward(self, hidden_states, router_logits, **kwargs):",
                "    found = self.forward_native(hidden_states, router_logits, **kwargs)",
                "    return found._replace(topk_ids=found.topk_ids.sort(dim=-1).values)",
            )
        ),
    ),
    Defect(
        "norm-writes-into-its-input",
        "FAC-047",
        operators(
            RMSNorm=(
                "def forward(self, x, residual=None, *args, **kwargs):",
                "    found = self.forward_native(x, residual, *args, **kwargs)",
                "    return x.copy_(found) if residual is None else found",
            )
        ),
    ),
    Defect(
        "experts-scale-their-input",
        "FAC-047",
        operators(
            TopK=(
                "def forward(self, hidden_states, router_logits, **kwargs):",
                "    hidden_states.mul_(0.5)",
                "    return self.forward_native(hidden_states, router_logits, **kwargs)",
            )
        ),
    ),
    Defect(
        "tokens-drawn-are-the-likeliest",
        "FAC-048",
        replaced(
            "sglang.srt.layers.sampler.sampling_from_probs_torch",
            "return args[0].argmax(dim=-1)",
        ),
    ),
    Defect(
        "tokens-drawn-beyond-top-k",
        "FAC-048",
        replaced(
            "sglang.srt.layers.sampler.top_k_top_p_min_p_sampling_from_probs_torch",
            "import torch",
            "",
            "return torch.multinomial(args[0], num_samples=1).view(-1)",
        ),
    ),
)

_PIECEWISE = '''\
        """None: capturing prefill in pieces is not declared, so SGLang does not come here."""
        return None
'''


def piecewise(*body: str) -> tuple[Edit, ...]:
    """The simulated plugin with a piecewise backend of its own: what it is made of, and these methods."""
    lines = "".join(f"    {line}\n" for line in body)
    return (
        Edit(
            "platform.py",
            _PIECEWISE,
            "        from sglang_simulated.piece import SimPiece\n\n        return SimPiece\n",
        ),
        Edit(
            "piece.py",
            "",
            "class SimPiece:\n"
            "    def __init__(self, graph, config, inductor, pool, index, total, symbols, compiled, backend):\n"
            "        self.compiled = compiled\n\n"
            f"{lines}",
        ),
    )


_COMPILED = (
    Defect(
        "compiled-for-the-first-batch-only",
        "FAC-049",
        (
            Edit("platform.py", _EAGER, "        return compiled_by_acme\n"),
            Edit(
                "platform.py",
                "",
                "\n\ndef compiled_by_acme(graph, inputs):\n"
                "    first = []\n\n"
                "    def replay(*given):\n"
                "        first[:] = first or [graph(*given)]\n"
                "        return first[0]\n\n"
                "    return replay\n",
            ),
        ),
    ),
    Defect(
        "compiled-for-one-number-of-rows",
        "FAC-049",
        (
            Edit("platform.py", _EAGER, "        return compiled_by_acme\n"),
            Edit(
                "platform.py",
                "",
                "\n\ndef compiled_by_acme(graph, inputs):\n"
                "    shapes = []\n\n"
                "    def run(*given):\n"
                "        now = [each.shape for each in given if isinstance(each, torch.Tensor)]\n"
                "        if now != (shapes or now):\n"
                "            raise RuntimeError('compiled for other shapes')\n"
                "        shapes[:] = now\n"
                "        return graph(*given)\n\n"
                "    return run\n",
            ),
        ),
    ),
    Defect(
        "piece-is-not-called",
        "FAC-050",
        piecewise("def run(self, *values):", "    return self.compiled(*values)"),
        of="sim",
    ),
    Defect(
        "piece-gives-what-it-gave-before",
        "FAC-050",
        piecewise(
            "def __call__(self, *values):",
            "    if not hasattr(self, 'output'):",
            "        self.output = self.compiled(*values)",
            "    return self.output",
        ),
        of="sim",
    ),
)

_SCALED = "        return x @ (layer.weight.to(x.dtype) * layer.scale.to(x.dtype)).T\n"
_WHOLE = "        layer.weight = torch.nn.Parameter((layer.weight / scale).round().char(), requires_grad=False)\n"
_QUANTIZED = f'''\
"""Weights in eight bits, with a scale for each output."""

import torch
from sglang.srt.layers.quantization.base_config import LinearMethodBase, QuantizationConfig


class AcmeConfig(QuantizationConfig):
    @classmethod
    def from_config(cls, config):
        return cls()

    def get_name(self):
        return "fp8"

    def get_supported_act_dtypes(self):
        return [torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls):
        return 0

    @staticmethod
    def get_config_filenames():
        return []

    def get_scaled_act_names(self):
        return []

    def get_quant_method(self, layer, prefix):
        return AcmeLinearMethod()


class AcmeLinearMethod(LinearMethodBase):
    def create_weights(
        self, layer, input_size_per_partition, output_partition_sizes, input_size, output_size, params_dtype, **more
    ):
        weight = torch.empty(sum(output_partition_sizes), input_size_per_partition, dtype=params_dtype)
        layer.register_parameter("weight", torch.nn.Parameter(weight, requires_grad=False))
        for name, value in more.items():
            setattr(layer.weight, name, value)

    def process_weights_after_loading(self, layer):
        scale = layer.weight.float().abs().amax(dim=1, keepdim=True) / 127
{_WHOLE}        layer.scale = scale

    def apply(self, layer, x, bias=None):
{_SCALED}'''


def quantization(*changes: Edit, name: str = "fp8") -> tuple[Edit, ...]:
    """Acme with a quantization of its own, less these changes of its module ``quantized.py``."""
    text = _QUANTIZED
    for change in changes:
        text = change.apply(text)
    return (
        Edit(
            "platform.py",
            _KEY,
            f"{_KEY}\n    def get_quantization_config(self, quantization: str) -> Any:\n"
            "        from acme.quantized import AcmeConfig\n\n"
            f"        return AcmeConfig if quantization == {name!r} else None\n",
        ),
        Edit("quantized.py", "", text),
    )


_QUANTIZATIONS = (
    Defect(
        "quantized-weights-lose-their-scale",
        "FAC-051",
        quantization(Edit("", _SCALED, "        return x @ layer.weight.to(x.dtype).T\n")),
    ),
    Defect(
        "quantized-layer-gives-float32",
        "FAC-051",
        quantization(Edit("", _SCALED, _SCALED.replace("\n", ".float()\n"))),
    ),
    Defect(
        "quantized-layer-has-no-method",
        "FAC-051",
        quantization(Edit("", "        return AcmeLinearMethod()\n", "        return None\n")),
    ),
)

_LOCATIONS = (
    "sum([row[s:e].tolist() for row, s, e in zip(req_to_token[req_pool_indices], start_offset, end_offset)], [])"
)


def locations(expression: str) -> tuple[Edit, ...]:
    """Acme with a function for speculative cache locations."""
    return (
        Edit(
            "platform.py",
            _KEY,
            f"{_KEY}\n    def get_speculative_cache_locs_fn(self) -> Any:\n        return cache_locations\n",
        ),
        Edit(
            "platform.py",
            "",
            "\n\ndef cache_locations(\n"
            "    *, req_pool_indices, req_to_token, start_offset, end_offset, batch_size, draft_token_num, device\n"
            "):\n"
            f"    found = {expression}\n"
            "    return torch.as_tensor(found, dtype=torch.int64, device=device)\n",
        ),
    )


_SPECULATIVE = (
    Defect(
        "cache-locations-from-the-first-rows",
        "FAC-052",
        locations(_LOCATIONS.replace("req_to_token[req_pool_indices]", "req_to_token[:batch_size]")),
    ),
    Defect(
        "cache-locations-one-later",
        "FAC-052",
        locations(_LOCATIONS.replace("row[s:e]", "row[s + 1 : e + 1]")),
    ),
)

DEFECTS = (*_MADE, *_POOL_CONTENTS, *_SLOTS, *_COMPUTED, *_COMPILED, *_QUANTIZATIONS, *_SPECULATIVE)

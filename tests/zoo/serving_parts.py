"""Parts of a plugin's own to serve models with: operators, a pool, an allocator, an attention backend. All right.

Each comes with the edits that put it in SGLang's way. The zoo's defects are small changes to these texts.
"""

from __future__ import annotations

from zoo.workshop import Edit

OPERATORS = '''\
"""Acme's operators, under its own key."""

import torch
import torch.nn.functional as F
from sglang.srt.layers.activation import SiluAndMul
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.moe.topk import TopK
from sglang.srt.layers.rotary_embedding import RotaryEmbedding


def norm(self, x, residual=None, post_residual_addition=None, **kwargs):
    if residual is not None:
        x = residual = x + residual
    wide = x.float()
    mean = wide.square().mean(dim=-1, keepdim=True)
    scaled = (wide / (mean + self.variance_epsilon).sqrt() * self.weight).to(x.dtype)
    return scaled if residual is None else (scaled, residual)


def activation(self, x):
    half = x.shape[-1] // 2
    return F.silu(x[..., :half]) * x[..., half:]


def rope(self, positions, query, key, offsets=None, fused_set_kv_buffer_arg=None):
    positions = (positions if offsets is None else positions + offsets).flatten()
    width = self.rotary_dim
    frequency = self.base ** (-torch.arange(0, width, 2, dtype=torch.float32, device=query.device) / width)
    angle = positions.float()[:, None, None] * frequency
    cos, sin = angle.cos(), angle.sin()

    def turned(x):
        heads = x.view(len(positions), -1, self.head_size)
        wide = heads[..., :width].float()
        if self.is_neox_style:
            one, two = wide.chunk(2, dim=-1)
            made = torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1)
        else:
            one, two = wide[..., ::2], wide[..., 1::2]
            made = torch.stack((one * cos - two * sin, two * cos + one * sin), dim=-1).flatten(-2)
        return torch.cat((made.to(x.dtype), heads[..., width:]), dim=-1).reshape(x.shape)

    return turned(query), turned(key)


def topk(self, hidden_states, router_logits, **kwargs):
    chosen = self.forward_native(hidden_states, router_logits, **kwargs)
    scores = router_logits.float().softmax(dim=-1).gather(1, chosen.topk_ids.long())
    return chosen._replace(topk_weights=scores / scores.sum(dim=-1, keepdim=True))


def register():
    for kind, function in ((RMSNorm, norm), (SiluAndMul, activation), (RotaryEmbedding, rope), (TopK, topk)):
        kind.register_oot_forward(kind, function, "acme")
'''

POOL = '''\
"""Acme's pool of keys and values."""

import torch
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool


class AcmePool(MHATokenToKVPool):
    """One buffer for keys and values of all layers."""

    def _create_buffers(self):
        shape = (self.layer_num, 2, self.size + self.page_size, self.head_num, self.head_dim)
        self.buffer = torch.zeros(shape, dtype=self.store_dtype, device=self.device)
        self.k_buffer = [layer[0] for layer in self.buffer]
        self.v_buffer = [layer[1] for layer in self.buffer]

    def set_kv_buffer(self, layer, loc, cache_k, cache_v, *args, **kwargs):
        slots = getattr(loc, "loc", loc)
        own = layer.layer_id - self.start_layer
        self.buffer[own, 0, slots] = cache_k.to(self.dtype)
        self.buffer[own, 1, slots] = cache_v.to(self.dtype)
'''

ALLOCATOR = '''\
"""Acme's allocator: the highest pages first, from a list on the host."""

import torch
from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator


class AcmeAllocator(PagedTokenToKVPoolAllocator):
    def __init__(self, size, page_size, dtype, device, kvcache, need_sort):
        self.pages, self.held = [], None
        super().__init__(size, page_size, dtype, device, kvcache, need_sort)

    def clear(self):
        super().clear()
        self.pages = list(range(1, self.size // self.page_size + 1))

    def available_size(self):
        return len(self.pages) * self.page_size

    def backup_state(self):
        return list(self.pages)

    def restore_state(self, state):
        self.pages = list(state)

    def alloc(self, need_size):
        return self.fill([(0, -1, need_size)])

    def alloc_extend(self, prefix_lens, prefix_lens_cpu, seq_lens, seq_lens_cpu, last_loc, extend_num_tokens, *more):
        before, after = prefix_lens_cpu.tolist(), seq_lens_cpu.tolist()
        return self.fill(list(zip(before, last_loc.tolist(), (b - a for a, b in zip(before, after)))))

    def alloc_decode(self, seq_lens, seq_lens_cpu, last_loc):
        return self.fill([(n - 1, last, 1) for n, last in zip(seq_lens_cpu.tolist(), last_loc.tolist())])

    def fill(self, wanted):
        needed = sum(-(-(have + more) // self.page_size) - -(-have // self.page_size) for have, _, more in wanted)
        if needed > len(self.pages):
            return None
        slots = []
        for have, slot, more in wanted:
            for position in range(have, have + more):
                slot = slot + 1 if position % self.page_size else self.pages.pop() * self.page_size
                slots.append(slot)
        return torch.tensor(slots, dtype=torch.int64, device=self.device)

    def free(self, free_index):
        pages = set((free_index // self.page_size).tolist())
        if self.held is None:
            self.take_back(pages)
        else:
            self.held |= pages

    def free_segment(self, free_index, *, start_pos=0):
        self.free(free_index)

    def free_page_ids(self, page_ids):
        self.free(page_ids * self.page_size)

    def free_group_begin(self):
        self.held = set()

    def free_group_end(self):
        held, self.held = self.held, None
        self.take_back(held)

    def take_back(self, pages):
        self.pages.extend(sorted(pages))
'''

ATTENTION = '''\
"""Acme's attention, one request after another."""

import torch
from sglang.srt.layers.attention.attention_registry import register_attention_backend
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend


class AcmeAttention(AttentionBackend):
    def __init__(self, runner):
        super().__init__()
        self.table = runner.req_to_token_pool.req_to_token
        self.pool = runner.token_to_kv_pool

    def init_forward_metadata(self, forward_batch):
        rows = forward_batch.req_pool_indices.tolist()
        lengths = forward_batch.seq_lens.tolist()
        decodes = forward_batch.forward_mode.is_decode()
        new = [1] * len(rows) if decodes else list(forward_batch.extend_seq_lens_cpu)
        self.slots = [self.table[row, :length].long() for row, length in zip(rows, lengths)]
        self.new = new

    def forward_extend(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
        return self.attend(q, k, v, layer, forward_batch, save_kv_cache)

    def forward_decode(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
        return self.attend(q, k, v, layer, forward_batch, save_kv_cache)

    def attend(self, q, k, v, layer, forward_batch, save_kv_cache):
        if save_kv_cache and k is not None:
            self.keep(layer, forward_batch.out_cache_loc, k, v)
        keys = self.pool.get_key_buffer(layer.layer_id)
        values = self.pool.get_value_buffer(layer.layer_id)
        queries = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim).split(self.new)
        given = [one(query, keys[slots], values[slots], layer) for query, slots in zip(queries, self.slots)]
        return torch.cat(given).flatten(1)

    def keep(self, layer, slots, k, v):
        try:
            from sglang.srt.mem_cache.memory_pool import KVWriteLoc
        except ImportError:
            self.pool.set_kv_buffer(layer, slots, k, v)
        else:
            self.pool.set_kv_buffer(layer, KVWriteLoc(slots, None), k, v)


def one(queries, keys, values, layer):
    groups = layer.tp_q_head_num // keys.shape[1]
    keys = keys.float().repeat_interleave(groups, dim=1).transpose(0, 1)
    values = values.float().repeat_interleave(groups, dim=1).transpose(0, 1)
    scores = queries.float().transpose(0, 1) @ keys.transpose(1, 2) * layer.scaling
    positions = torch.arange(len(keys[0]), device=queries.device)
    later = positions > positions[len(keys[0]) - len(queries) :, None]
    weights = scores.masked_fill(later, float("-inf")).softmax(dim=-1)
    return (weights @ values).transpose(0, 1).to(queries.dtype)


def register():
    register_attention_backend("acme")(AcmeAttention)
'''

BLOCK = '''\
"""What several modules of SGLang's compute, at once."""

from torch.nn import functional


def block(self, x, *args, **kwargs):
    gate, up = functional.linear(x, self.gate_up_proj.weight).chunk(2, dim=-1)
    return functional.linear(functional.silu(gate) * up, self.down_proj.weight)
'''
HOOKS = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"

_CLASS = "    supported_quantization: list[str] = []\n"
_CHOICE = """\
        if server_args.attention_backend is None:
            server_args.attention_backend = "torch_native"
"""
_INIT = "        torch.set_flush_denormal(False)\n"
_NO_POOL = "    def get_kv_pool_cls(self, *, kind: str) -> None:\n        return None\n"
_ALLOCATOR = (
    "        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator\n\n"
    "        return PagedTokenToKVPoolAllocator\n"
)


def operators(text: str = OPERATORS) -> tuple[Edit, ...]:
    """Acme with operators of its own."""
    key = '\n    def get_dispatch_key_name(self) -> str:\n        return "acme"\n'
    return (
        Edit("operators.py", "", text),
        Edit("platform.py", _CLASS, _CLASS + key),
        Edit("platform.py", _INIT, f"        from acme import operators\n\n        operators.register()\n{_INIT}"),
    )


def pool(text: str = POOL) -> tuple[Edit, ...]:
    """Acme with a pool of its own for keys and values."""
    own = "from acme.pool import AcmePool\n\n        return AcmePool if kind == 'mha' else None"
    return (Edit("pool.py", "", text), Edit("platform.py", _NO_POOL, _NO_POOL.replace("return None", own)))


def allocator(text: str = ALLOCATOR) -> tuple[Edit, ...]:
    """Acme with an allocator of its own."""
    own = "        from acme.allocator import AcmeAllocator\n\n        return AcmeAllocator\n"
    return (Edit("allocator.py", "", text), Edit("platform.py", _ALLOCATOR, own))


def attention(text: str = ATTENTION) -> tuple[Edit, ...]:
    """Acme with an attention backend of its own. SGLang asks no platform for one on the CPU, so it says so itself."""
    register = "        from acme import attention\n\n        attention.register()\n"
    return (
        Edit("attention.py", "", text),
        Edit("platform.py", _INIT, f"{register}{_INIT}"),
        Edit(
            "platform.py", _CHOICE, _CHOICE.replace("is None", 'in (None, "intel_amx")').replace("torch_native", "acme")
        ),
    )


def fused(target: str, text: str = BLOCK) -> tuple[Edit, ...]:
    """Acme with a hook that has what a class of SGLang's models computes by several modules computed at once."""
    hook = f'HookRegistry.register("sglang.srt.models.{target}.forward", block, HookType.REPLACE)'
    return (
        Edit("block.py", "", text),
        Edit("hooks.py", HOOKS, f"    from acme.block import block\n\n    {hook}\n{HOOKS}"),
    )


def loading(*lines: str) -> tuple[Edit, ...]:
    """Acme which does something with a model that has been loaded (since 0.5.22)."""
    body = "".join(f"        {line}\n" for line in lines)
    method = f"\n    def post_load_model(self, model: Any) -> None:\n{body}"
    return (Edit("platform.py", _CLASS, _CLASS + method),)


def changed(text: str, *changes: tuple[str, str]) -> str:
    """One of these texts with some changes. Raises ValueError where one fits not exactly once."""
    for old, new in changes:
        text = Edit("a part", old, new).apply(text)
    return text

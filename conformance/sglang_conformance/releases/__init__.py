"""``sglang-conformance releases``: one platform, certified for many SGLang releases, one pytest after another."""

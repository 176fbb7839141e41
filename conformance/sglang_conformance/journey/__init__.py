"""The core's journey: a platform serves a tiny model as SGLang's core makes it, and every step is seen."""

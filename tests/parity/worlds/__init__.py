"""How hypothesis draws worlds, a module a subject; only the driving process imports these."""

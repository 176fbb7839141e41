"""The zoo: deliberately wrong plugins, a module an area."""

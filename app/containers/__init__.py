"""The composition roots: the only modules that import adapters and the injector."""

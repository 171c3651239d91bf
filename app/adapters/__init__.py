"""The ports' adapters, one module per technology; none imports another."""

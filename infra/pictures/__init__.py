"""The pictures of the documentation, made by `make pictures` into infra/docs/pictures."""

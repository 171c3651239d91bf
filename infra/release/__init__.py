"""A release: its version and notes, its image's labels and contents, and how that gets into a registry."""

"""What stops the local stack, in a sentence for whoever started it."""


class LocalStackFailure(Exception):
    """The local stack can't be had; the text says why and where to look."""

"""The composition roots: the only modules that import adapters, and the only ones that know the injector."""

from app.domain.handshakes import CloseConnection, OpenConnection
from app.settings import Settings

type HandshakeUseCases = tuple[OpenConnection, CloseConnection]


def compose_handshakes(settings: Settings) -> HandshakeUseCases:
    """Return the use cases of ``$connect`` and ``$disconnect``.

    The image has the compiled form of their container (see compile.py), which
    does not import the injector. Anywhere else the container composes them.
    """
    try:
        from app.containers.compiled import compose  # noqa: PLC0415 - only the image has it
    except ModuleNotFoundError as error:
        if error.name != "app.containers.compiled":
            raise
        compose = _by_the_container
    composed: HandshakeUseCases = compose(settings)
    return composed


def _by_the_container(settings: Settings) -> HandshakeUseCases:
    from app.containers.handshakes import Handshakes  # noqa: PLC0415 - it imports the injector

    container = Handshakes(settings=settings)
    return container.open_connection(), container.close_connection()

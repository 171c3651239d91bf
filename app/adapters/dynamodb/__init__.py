"""Connections and presence in DynamoDB: stores over a Transport, and two transports, ``sdk`` and ``direct``.

A handshake imports ``direct`` alone, so nothing is imported here.
"""

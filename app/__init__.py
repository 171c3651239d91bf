"""Switchboard: the true list of who is connected to an API Gateway WebSocket API."""

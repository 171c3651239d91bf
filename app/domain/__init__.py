"""What a connection is and what may happen to it; no I/O, no clock but the port."""

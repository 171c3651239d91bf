"""Where the platform calls in."""

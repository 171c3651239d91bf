"""The Lambda functions, and the translation of their events."""

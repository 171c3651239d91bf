"""Signed tokens (JSON Web Tokens): their signatures, by OpenSSL, and the keys of their issuer."""

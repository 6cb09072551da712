"""Bundled demo data: a small chat model, preference pairs and the generator that made both."""

"""Engines that serve: a strength per request inside stock vLLM. See docs/engines.md."""

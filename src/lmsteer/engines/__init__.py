"""Engines that serve: every request has its own strengths in stock vLLM. See docs/engines.md."""

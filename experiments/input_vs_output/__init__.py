"""A map on the input embeddings against one on the output embeddings."""

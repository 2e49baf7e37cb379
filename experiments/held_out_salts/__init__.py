"""Whether it matters which texts a training holds out."""

"""Made-up training jobs: static trees for tests and benches, a live producer for demonstrations."""

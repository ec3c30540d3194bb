"""Training data: one file a dataset; numpy in, numpy out."""

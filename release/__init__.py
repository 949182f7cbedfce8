"""How the published wheel is built: compiled twice, with a training run between the two."""

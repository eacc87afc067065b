"""What scripts share: tables of names, datasets, training, run directories."""

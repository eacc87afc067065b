"""What the scripts share: tables of names, run directories, pictures."""

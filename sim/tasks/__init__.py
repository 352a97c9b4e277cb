"""Tasks as data: one file each."""

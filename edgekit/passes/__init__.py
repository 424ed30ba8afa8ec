"""Steps that turn one model file into another, one file each."""

"""The public functions, one file each; the command line is a thin face over them."""

"""The methods compared, one file per family, behind one protocol."""

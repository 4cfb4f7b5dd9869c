"""protcli: experiments that predict a protein's inter-residue distance matrix."""

__version__ = "0.1.0"

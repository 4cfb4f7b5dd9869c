"""The version of protcli, for those that must not import the package itself."""

VERSION = "0.1.0"

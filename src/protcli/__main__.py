"""`python -m protcli`."""

from protcli.cli import main

main()

"""The command line `tandem`: one file per command or group of commands, listed in main.py."""

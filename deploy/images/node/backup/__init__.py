"""Backups of a cluster: what the commands `repository`, `restore` and `replica-from-backup` share."""

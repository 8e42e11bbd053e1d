"""The machine: its devices and memory, processes, disks, and files that are written whole or not at all."""

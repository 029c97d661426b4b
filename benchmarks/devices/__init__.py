"""Devices to measure on: this machine, Android devices, Macs, iPhones and Arm's Ethos-U."""

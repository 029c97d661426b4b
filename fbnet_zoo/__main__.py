"""`python -m fbnet_zoo` is the command `fbnet-zoo`."""

from fbnet_zoo.cli import main

if __name__ == "__main__":
    main()

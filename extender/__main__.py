"""``python -m extender``: the same as the command ``model-cache-extender``."""

from extender.cli.main import main

if __name__ == "__main__":
    main()

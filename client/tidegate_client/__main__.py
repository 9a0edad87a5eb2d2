"""`python -m tidegate_client` is the command `tidegate`."""

from tidegate_client.command import main

if __name__ == "__main__":
    main()

"""The command `jobrec`, and `python -m graphql_api`."""

import gc

# Whatever imports make stays; looking for garbage among it takes a sixth of the start
gc.disable()


def main() -> None:
    """Run the command line."""
    # A server's workers import this module anew, and need nothing of the command line
    from graphql_api import command_line

    command_line.main()


if __name__ == "__main__":
    main()

"""`//:quickstart`, the program: hears signals from the first import on; see quickstart.py."""

from base.interrupts import exit_when_interrupted


def main() -> None:
    """Runs the quickstart as the command line asks, and ends the process."""
    import typer

    import quickstart

    app = typer.Typer(add_completion=False)
    app.command()(quickstart.main)
    app(prog_name="//:quickstart")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: everything was shut down"):
        main()

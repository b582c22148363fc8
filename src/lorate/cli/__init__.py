"""The command ``lorate``."""


def main() -> None:
    """Entry point: run a command, turn mistakes into one sentence and exit code 2."""
    import os

    from lorate.extras import require_extra

    try:
        require_extra("cli")
    except ImportError as error:
        raise SystemExit(f"lorate: {error}") from None
    # commands draw files only; what a notebook sets for itself may name a package that is not installed here
    os.environ["MPLBACKEND"] = "agg"
    from lorate.cli.app import run
    from lorate.cli.launch import follow_launcher, is_launched, leave

    follow_launcher()
    code = run()
    if is_launched():
        leave(code)
    raise SystemExit(code)

"""The entry point of the program, also for `python3 -m ipvsd`. SIGINT never causes a traceback, even during imports."""


def main() -> int:
    """Run the command line, and return its exit code. SIGINT ends this process, so that the shell sees it (130)."""
    try:
        from ipvsd import cli  # here, because an import can be interrupted

        return cli.main()
    except KeyboardInterrupt:
        import os
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise


if __name__ == "__main__":
    import sys

    sys.exit(main())

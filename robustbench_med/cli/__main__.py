"""`python -m robustbench_med.cli`."""

from robustbench_med.cli.app import main

main()

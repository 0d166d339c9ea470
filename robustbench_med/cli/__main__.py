"""`python -m robustbench_med.cli`."""

from robustbench_med.cli import main

main()

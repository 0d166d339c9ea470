"""`python -m robustbench_med.cli`."""

from robustbench_med.cli.program import main

main()

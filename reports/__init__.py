"""Reports: tables, figures, pages, cards. They read the store and nothing else."""

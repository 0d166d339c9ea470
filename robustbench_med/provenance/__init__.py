"""What results are made of: hashes of files and of the user's code, revisions of medrobust's."""

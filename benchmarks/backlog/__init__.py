"""Does a large backlog make a release or a poll dearer? It must not: a million rows cost what a thousand do."""

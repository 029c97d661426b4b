"""Self-contained HTML pages about networks, files, measurements and searches, with SVG charts."""

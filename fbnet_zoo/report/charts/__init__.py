"""SVG charts for pages: bars, columns, strips, lines, scatter plots and heat maps."""

"""Pages and plots: self-contained HTML, with SVG drawn here."""

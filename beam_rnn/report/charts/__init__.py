"""Charts as SVG: axes, marks, figures."""

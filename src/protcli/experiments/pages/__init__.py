"""Pages of tables and pictures, as Markdown or HTML."""

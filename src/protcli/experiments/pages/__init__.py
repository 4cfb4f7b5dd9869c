"""Tables and pictures as Markdown or HTML."""

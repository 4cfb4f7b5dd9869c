"""Get proteins into a store and look at them: fetch, import, inspect."""

"""What other programs read: results.json, tables, JUnit properties, a badge."""

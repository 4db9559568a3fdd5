"""The command line's verbs, by who uses them. A module here holds options and help; verbs have their own files."""

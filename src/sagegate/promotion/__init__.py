"""`sagegate promote` and `sagegate rollback`: change which model an environment serves, by pull request."""

"""`sagegate explain`: why an execution failed, and how to fix it."""
